"""The second argument of a handler."""
import json
import os
import time


class Context:
    """What a handler may know about its invocation."""

    __slots__ = (
        "aws_request_id", "log_group_name", "log_stream_name", "function_name",
        "memory_limit_in_mb", "function_version", "invoked_function_arn",
        "client_context", "identity", "tenant_id", "_deadline_ms", "__dict__",
    )

    def __init__(self, request_id, headers, deadline_ms):
        env = os.environ
        self.aws_request_id = request_id
        self.log_group_name = env.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = env.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = env.get("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = env.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = env.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = _text(headers, b"lambda-runtime-invoked-function-arn")
        self.tenant_id = _text(headers, b"lambda-runtime-aws-tenant-id")
        self._deadline_ms = deadline_ms
        self.client_context = None
        client = _text(headers, b"lambda-runtime-client-context")
        if client:
            self.client_context = _client_context(json.loads(client))
        self.identity = CognitoIdentity()
        cognito = _text(headers, b"lambda-runtime-cognito-identity")
        if cognito:
            parsed = json.loads(cognito)
            self.identity.cognito_identity_id = parsed.get("cognitoIdentityId")
            self.identity.cognito_identity_pool_id = parsed.get("cognitoIdentityPoolId")

    def get_remaining_time_in_millis(self):
        """Milliseconds until the invocation times out, at least 0."""
        return max(self._deadline_ms - int(time.time() * 1000), 0)

    def log(self, message):
        """Writes message to the log as it is."""
        from . import logs
        logs.sink.write(str(message), logs.TEXT)

    def __repr__(self):
        names = [n for n in self.__slots__ if not n.startswith("_")]
        return "LambdaContext([%s])" % ",".join("%s=%s" % (n, getattr(self, n)) for n in names)


class CognitoIdentity:
    """The identity of a mobile caller; both fields are None without one."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self):
        self.cognito_identity_id = None
        self.cognito_identity_pool_id = None

    def __repr__(self):
        return "CognitoIdentity([cognito_identity_id=%s,cognito_identity_pool_id=%s])" % (
            self.cognito_identity_id, self.cognito_identity_pool_id)


class ClientContext:
    """What a mobile client told about itself and the application."""

    __slots__ = ("custom", "env", "client")

    def __repr__(self):
        return "ClientContext([custom=%s,env=%s,client=%s])" % (self.custom, self.env, self.client)


class Client:
    """The application that called."""

    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")

    def __repr__(self):
        return "Client([%s])" % ",".join("%s=%s" % (n, getattr(self, n)) for n in self.__slots__)


def _client_context(parsed):
    if not isinstance(parsed, dict):
        return None
    context = _filled(ClientContext(), parsed)
    if isinstance(context.client, dict):
        context.client = _filled(Client(), context.client)
    return context


def _filled(target, source):
    for name in target.__slots__:
        setattr(target, name, source.get(name))
    return target


def _text(headers, name):
    value = headers.get(name)
    return None if value is None else value.decode("utf-8", "replace")
