"""`fiducial data review`: what a check found, one after the other, on a page of this machine."""
