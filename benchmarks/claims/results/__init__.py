"""What the studies show: verdicts, findings, and the document with its picture."""
