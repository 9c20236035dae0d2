"""The cases of the Autobahn test suite, whose package is written in Python 2: each is read as it is, and run in a world
in which its words mean what they meant there.

There, text is bytes. Here it is a `str` with one character for each byte, which the peer sends and tells as such.
"""

import binascii
import builtins
import importlib.util
import os
import re
import types

PACKAGE = os.path.dirname(importlib.util.find_spec("autobahntestsuite").origin)

# These two send for ever and judge nothing; the suite itself leaves them out too.
ENDLESS = ("case9_9_1", "case9_10_1")


def all_cases():
    """Every case by its number, such as `6.4.1`, in the order of the suite."""
    library = Library()
    return {case.__name__.removeprefix("Case").replace("_", "."): case for case in library.load("__init__")["Cases"]}


class Offer:
    """What a client offers of permessage-deflate, in the suite's own words."""

    def __init__(self, requestNoContextTakeover=False, requestMaxWindowBits=0):
        self.requestNoContextTakeover = requestNoContextTakeover
        self.requestMaxWindowBits = requestMaxWindowBits


class Validator:
    """As Autobahn's own: it returns first whether this is UTF-8 so far, then whether it may end here."""

    def reset(self):
        pass

    def validate(self, text):
        try:
            text.encode("latin-1").decode()
        except UnicodeDecodeError as error:
            return error.reason == "unexpected end of data", False
        return True, True


class Codes:
    """The names that the cases use of Autobahn's protocol."""

    CLOSE_STATUS_CODE_NORMAL = 1000
    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1007
    STATE_CLOSED, STATE_CONNECTING, STATE_CLOSING, STATE_OPEN = range(4)
    MESSAGE_TYPE_TEXT = 1


def module(name, **content):
    made = types.ModuleType(name)
    made.__dict__.update(content)
    return made


def hexed(text):
    return binascii.b2a_hex(text.encode("latin-1") if isinstance(text, str) else text).decode()


class Library:
    """Loads the modules of the suite, and gives them what they import."""

    def __init__(self):
        self.loaded = {}
        self.others = {
            "autobahn.websocket.protocol": module("protocol", WebSocketProtocol=Codes),
            "autobahn.websocket.utf8validator": module("utf8validator", Utf8Validator=Validator),
            "autobahn.websocket.compress": module("compress", PerMessageDeflateOffer=Offer),
            "binascii": module("binascii", b2a_hex=hexed, hexlify=hexed),
            "pkg_resources": module(
                "pkg_resources", resource_filename=lambda package, path: os.path.join(PACKAGE, path)
            ),
        }

    def load(self, name):
        if name not in self.loaded:
            self.loaded[name] = {"__name__": f"suite.{name}", "__builtins__": self.builtins()}
            with open(os.path.join(PACKAGE, "case", f"{name}.py"), encoding="latin-1") as file:
                exec(compile(translated(name, file.read()), name, "exec"), self.loaded[name])
            if name == "case":
                self.loaded[name]["Case"].compare = lambda case, one, other: one == other
        return self.loaded[name]

    def builtins(self):
        return {**vars(builtins), "xrange": range, "unichr": chr, "__import__": self.take}

    def take(self, name, *rest):
        if name in ENDLESS:
            return module(name)
        if name.startswith("case"):
            return module(name, **{key: value for key, value in self.load(name).items() if key != "__builtins__"})
        return self.others.get(name) or builtins.__import__(name, *rest)


def translated(name, source):
    source = re.sub(r"^(\s*)print\b ?(.*)$", r"\1print(\2)", source, flags=re.MULTILINE)
    source = source.replace("(object, Case, )", "(Case,)")
    source = source.replace(" / self.p.autoFragmentSize", " // self.p.autoFragmentSize")
    if name == "case12_x_x":
        # The only ones that tell bytes from text themselves.
        return source
    return re.sub(r"""\.encode\((["'])utf-?8\1\)""", r".encode('utf-8').decode('latin-1')", source, flags=re.IGNORECASE)
