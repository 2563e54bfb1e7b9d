"""What the kept results show: scores, findings, and the document with its picture."""
