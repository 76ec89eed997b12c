"""A kit for serving a venue on this machine: HTTP, WebSocket and TCP, plain and TLS, with scripted faults.

A venue's simulator derives from `HttpServer` (or `TcpServer`), adds its routes, words its own errors
(`refusal`) and tells its `settings`; `server.faults` scripts what goes wrong.
"""

from . import faults
from .faults import KINDS, Fault, FrameFault, RequestFault
from .frames import Frame, Session
from .http import HttpServer
from .messages import Declined, Reply, Request, encode, iso
from .replay import ReplayServer
from .routes import Receiver, Routes, Upgrade
from .script import Applied, Faults, parse_fault
from .server import Server
from .tcp import TcpServer, TcpSession
from .tls import ThrowawayAuthority
from .websocket import Socket

__all__ = [
    "KINDS",
    "Applied",
    "Declined",
    "Fault",
    "Faults",
    "Frame",
    "FrameFault",
    "HttpServer",
    "Receiver",
    "ReplayServer",
    "Reply",
    "Request",
    "RequestFault",
    "Routes",
    "Server",
    "Session",
    "Socket",
    "TcpServer",
    "TcpSession",
    "ThrowawayAuthority",
    "Upgrade",
    "encode",
    "faults",
    "iso",
    "parse_fault",
]
