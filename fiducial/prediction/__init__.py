"""Points in images, folders, videos and cameras: drawings and COCO results come out."""
