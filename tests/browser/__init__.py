"""What a person would see: real pages in a real Chromium, against a real server."""
