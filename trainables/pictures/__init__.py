"""What predictions look like: colours of classes, directions and values, and maps of errors."""
