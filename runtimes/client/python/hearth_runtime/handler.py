"""Finds the function's handler and turns its results into JSON."""
import json
import sys

from .errors import Fault


def prepare_path(environ):
    """Puts the code and the layers in front of the library. A function that
    sets PYTHONPATH itself has had it obeyed by the interpreter."""
    runtime_dir = environ.get("LAMBDA_RUNTIME_DIR", "/var/runtime")
    if environ.get("PYTHONPATH", runtime_dir) == runtime_dir:
        version = "%d.%d" % sys.version_info[:2]
        sys.path[0:0] = ["/opt/python/lib/python%s/site-packages" % version, "/opt/python"]
        environ["PYTHONPATH"] = runtime_dir  # for what the function starts
    sys.path.insert(0, environ.get("LAMBDA_TASK_ROOT", "/var/task"))
    sys.path_importer_cache.clear()  # it may remember folders from before the code was there


def load(name):
    """Imports the handler, given as "package/module.function"."""
    try:
        module_name, function_name = name.rsplit(".", 1)
    except ValueError as e:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': %s" % (name, e)) from None
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault("Runtime.BuiltInModuleConflict",
                    "Cannot use built-in module %s as a handler module" % module_name)
    dotted = module_name.replace("/", ".")
    try:
        __import__(dotted)
        module = sys.modules[dotted]
    except ImportError as e:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module_name, e)) from e
    except SyntaxError as e:
        trace = ['  File "%s" Line %s\n    %s' % (e.filename, e.lineno, e.text)]
        raise Fault("Runtime.UserCodeSyntaxError",
                    "Syntax error in module '%s': %s" % (module_name, e), trace) from e
    except ValueError as e:
        if dotted.startswith(".") or not dotted:
            raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': %s" % (name, e)) from None
        raise
    try:
        return getattr(module, function_name)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound",
                    "Handler '%s' missing on module '%s'" % (function_name, module_name)) from None


class _Encoder(json.JSONEncoder):
    """Encodes decimals as numbers with all their digits. The standard encoder
    has no way to write a number as given, so that a marker that no other text
    can hold stands for it until the end."""

    def __init__(self, **options):
        super().__init__(**options)
        self.numbers = {}

    def default(self, value):
        decimal = sys.modules.get("decimal")
        if decimal is None or not isinstance(value, decimal.Decimal):
            return super().default(value)
        if value.is_nan():
            return float("nan")
        if not self.numbers:
            import os
            self.prefix = os.urandom(16).hex()
        text = str(value)
        marker = "%s-%d" % (self.prefix, len(self.numbers))
        self.numbers['"%s"' % marker] = "-Infinity" if text == "-Infinity" else text
        return marker


_ascii = True
_fast = None


def choose_encoding(environ):
    """From python3.12 on the service sends other scripts as they are, before
    as escapes. What counts is the function's runtime, whichever serves it."""
    global _ascii, _fast
    name = environ.get("AWS_EXECUTION_ENV", "").rpartition("python3.")[2]
    _ascii = (int(name) if name.isdigit() else sys.version_info[1]) < 12
    _fast = json.JSONEncoder(ensure_ascii=_ascii, default=_refuse).encode


class _Slow(Exception):
    """The value needs the careful encoder."""


def _refuse(value):
    raise _Slow


def marshal(result):
    """The handler's result as JSON in UTF-8."""
    if result is None:
        return b"null"
    try:
        return _bytes(_fast(result), result)
    except _Slow:
        pass
    except Exception as e:
        raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % e) from None
    try:
        encoder = _Encoder(ensure_ascii=_ascii)
        text = encoder.encode(result)
        for marker, number in encoder.numbers.items():
            text = text.replace(marker, number)
        return _bytes(text, result)
    except Exception as e:
        raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % e) from None


def _bytes(text, result):
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8; as an escape it is valid JSON.
        encoder = _Encoder(ensure_ascii=True)
        text = encoder.encode(result)
        for marker, number in encoder.numbers.items():
            text = text.replace(marker, number)
        return text.encode()


def unmarshal(body):
    """The event from JSON."""
    try:
        return json.loads(body)
    except Exception as e:
        raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % e) from None
