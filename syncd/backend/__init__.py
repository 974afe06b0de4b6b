"""For an application's own backend: write and read synced records on its own connection, in its own transaction.

Nothing of the server is loaded for it. `syncd.write` and `syncd.read` are the way in.
"""
