"""Failures on the way, in words of our own: the text of a library may repeat what was sent."""

from __future__ import annotations

import socket
import ssl
import traceback
from collections.abc import Iterator

from websockets.exceptions import InvalidHandshake, InvalidURI

from .http import SendFailed


def describe(error: BaseException) -> str:
    """The reason why there was no answer, in a sentence that holds nothing of the request."""
    for cause in _chain(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return f"the server's certificate is not accepted: {cause.verify_message}"
            case ssl.SSLError():
                return "the server does not speak TLS as it should"
            case socket.gaierror():
                return "the server's name is not known"
            case ConnectionRefusedError():
                return "nothing listens at the server's address"
    match error:
        case SendFailed():
            return str(error)
        case TimeoutError():
            return "nothing came for too long"
        case InvalidURI():
            return "url= is no address of a server"
        case InvalidHandshake():
            return "the answer to the handshake is no socket's"
        case OSError() | EOFError():
            return "the connection was cut"
        case _:
            return f"the request failed ({type(error).__name__})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def place(error: BaseException) -> str:
    """The place where an error of this package came up, line by line, for a log: its text may hold values."""
    return "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__
