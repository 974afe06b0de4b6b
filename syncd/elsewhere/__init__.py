"""Coming from elsewhere: rows of other stores become changes, are written, and compared with what the server has."""
