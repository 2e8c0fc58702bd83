"""Article B's experiment as one command, `fiducial distill --study`: which loss and which initialisation bring a student
nearest to its teacher, over seeds, and what the student learns without."""
