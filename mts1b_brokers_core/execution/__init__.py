"""What makes orders safe: the journal, submission, the fill log and the gates."""
