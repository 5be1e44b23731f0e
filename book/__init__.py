"""The book: the stored notebooks, pages and verdicts as a static site (`make book`)."""
