"""Where the credentials of the clouds come from, as their own tools look for them. Pure.

Two secret references lead here: ``google:`` and ``aws:``, each with a name behind it if one is meant that is not the
usual. Environment and files decide what is asked (``source_of``), ``questions`` says how, and the relay asks:

    google:         $GOOGLE_APPLICATION_CREDENTIALS, the file that gcloud writes, the metadata server
    google:FILE     that file
    aws:            the keys in the environment, the profile ($AWS_PROFILE, else "default"), a container's or an
                    instance's metadata
    aws:PROFILE     that profile

Sources: ``google.auth``, ``botocore.credentials``.

>>> aws_source("aws:", {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S"}, lambda path: "")
Keys(access_key='A', secret_key='S', session_token='')
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.providers.credentials import AWS, GOOGLE, ReadText, Secret, is_sendable, secret_in, secret_of
from ccproxy_lite.providers.hosts import location_of, region_of
from ccproxy_lite.providers.provider import Headers

GCLOUD_COMMAND = "cmd:gcloud auth print-access-token"
AZURE_COMMAND = "cmd:az account get-access-token --scope https://ai.azure.com/.default --query accessToken -o tsv"
AWS_COMMAND = "cmd:aws configure export-credentials --format process"
REFERENCES = {
    "google:": "application default credentials: gcloud's file, else the metadata server",
    "google:FILE": "that file, of type authorized_user",
    "aws:": "the environment's access keys, ~/.aws (static keys, credential_process), container or instance metadata",
    "aws:PROFILE": "that profile",
    "cmd:...": "a helper that prints a token, or JSON with a token or access keys, and when they expire:",
}
"""What may stand among keys for a cloud, and what it leads to."""
COMMANDS = (GCLOUD_COMMAND, AWS_COMMAND, AZURE_COMMAND)
"""Helpers of the clouds' own tools; the second also for single sign-on and assumed roles."""
CLAUDES = "anthropic"
_EXPRESS = "gemini"
_ACTIVATE = "gcloud auth activate-service-account --key-file FILE"
_GCLOUD_FILE = "application_default_credentials.json"
_METADATA_HOST = "metadata.google.internal"
_TOKEN_URL = "https://oauth2.googleapis.com/token"
_TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
_SESSION_PATH = "/latest/api/token"
_ROLE_PATH = "/latest/meta-data/iam/security-credentials/"
_SESSION_S = 21600
_PRODUCT_FILE = "/sys/class/dmi/id/product_name"
_MAKER_FILE = "/sys/class/dmi/id/sys_vendor"
_CONTAINER_URL = "http://169.254.170.2"
_CONTAINER_HOSTS = ("169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost", "127.0.0.1", "::1")
_ELSEWHERE = ("role_arn", "web_identity_token_file", "sso_session", "sso_start_url", "login_session")
"""What says in a profile that its keys must be asked for in a way that is not known here."""
_INSTANCE_URL = "http://169.254.169.254"


class User(NamedTuple):
    """Google: a user's own login, whose refresh token gives access tokens."""

    client_id: str
    client_secret: str
    refresh_token: str
    quota_project: str = ""


class Metadata(NamedTuple):
    """Google: the metadata server of the machine, by host and port."""

    host: str
    quota_project: str = ""


class Keys(NamedTuple):
    """AWS: keys that are at hand."""

    access_key: str
    secret_key: str
    session_token: str = ""


class Process(NamedTuple):
    """AWS: a command that prints keys."""

    command: str


class Container(NamedTuple):
    """AWS: the address of a container's credentials, and what it wants to hear: a token, or the file that holds it."""

    url: str
    token: str = ""
    token_file: str = ""


class Instance(NamedTuple):
    """AWS: the metadata of an instance, by its base URL."""

    url: str


GoogleSource = User | Metadata
AwsSource = Keys | Process | Container | Instance


class NoCredentialsError(ValueError):
    """There are none, or they cannot be used; the text says why, and what to do."""


# ---------------------------------------------------------------- Google


def google_source(reference: str, environ: Mapping[str, str], read: ReadText) -> GoogleSource:
    """Where ``google:`` leads to. Raises NoCredentialsError."""
    path = google_file(reference, environ, read)
    quota_project = environ.get("GOOGLE_CLOUD_QUOTA_PROJECT", "")
    if not path:
        host = _first(environ, "GCE_METADATA_HOST", "GCE_METADATA_ROOT") or _METADATA_HOST
        if "/" in host:
            raise NoCredentialsError("GCE_METADATA_HOST must be a host, or host:port")
        _host_of(f"http://{host}", "GCE_METADATA_HOST")
        return Metadata(host, quota_project)
    try:
        told = loads(read(path))
    except (OSError, ValueError) as error:
        raise NoCredentialsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    kind = told.get("type") if isinstance(told, dict) else None
    if kind != "authorized_user":
        what = f'is of type "{kind}"' if kind else "has no credentials"
        raise NoCredentialsError(
            f'{path} {what}; only "authorized_user" is supported: run "{_ACTIVATE}", use "{GCLOUD_COMMAND}"'
        )
    client_id, client_secret, refresh_token = (str(told.get(name) or "") for name in User._fields[:3])
    if not (client_id and client_secret and refresh_token):
        raise NoCredentialsError(f"{path} is not complete; run: gcloud auth application-default login")
    return User(client_id, client_secret, refresh_token, quota_project or str(told.get("quota_project_id") or ""))


def google_file(reference: str, environ: Mapping[str, str], read: ReadText) -> str:
    """The file of the credentials; empty if there is none, so that only the metadata server is left."""
    named = reference.removeprefix(GOOGLE) or environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    if named:
        return named
    folder = environ.get("CLOUDSDK_CONFIG") or f"{environ.get('HOME', '')}/.config/gcloud"
    return path if _is_there(path := f"{folder}/{_GCLOUD_FILE}", read) else ""


def is_on_google(environ: Mapping[str, str], read: ReadText) -> bool:
    """Whether there is a metadata server, as far as that shows without asking."""
    names = ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "K_SERVICE", "GAE_SERVICE")
    return any(environ.get(name) for name in names) or "Google" in _text(_PRODUCT_FILE, read)


# ---------------------------------------------------------------- AWS


def aws_source(reference: str, environ: Mapping[str, str], read: ReadText) -> AwsSource:
    """Where ``aws:`` leads to. Raises NoCredentialsError."""
    named = reference.removeprefix(AWS)
    around = None if named else _keys_in(environ, "the environment", str.upper)
    if around is not None:
        return around
    chosen = named or _first(environ, "AWS_PROFILE", "AWS_DEFAULT_PROFILE")
    if not named and environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environ.get("AWS_ROLE_ARN"):
        raise NoCredentialsError(f'AWS_WEB_IDENTITY_TOKEN_FILE is set: use "{AWS_COMMAND}"')
    profile = aws_profile(chosen or "default", environ, read)
    found = _in_profile(chosen or "default", profile)
    if found is not None:
        return found
    if named or (chosen and not profile.is_there):
        known = "has no access keys" if profile.is_there else "does not exist"
        raise NoCredentialsError(f'AWS profile "{chosen}" {known}')
    return _container(environ) or _instance(environ)


def _in_profile(name: str, profile: _Profile) -> AwsSource | None:
    """In the order of ``botocore``: roles and logins, the keys of the one file, a command, the keys of the other."""
    both = {**profile.config, **profile.credentials}
    other = next((one for one in _ELSEWHERE if both.get(one)), "")
    if other:
        command = AWS_COMMAND if name == "default" else f"{AWS_COMMAND} --profile {name}"
        raise NoCredentialsError(f'AWS profile "{name}" has {other}: use "{command}"')
    found = _keys_in(profile.credentials, f'AWS profile "{name}"')
    if found is None and both.get("credential_process"):
        return Process(both["credential_process"])
    return found or _keys_in(profile.config, f'AWS profile "{name}"')


def _keys_in(settings: Mapping[str, str], where: str, spell: Callable[[str], str] = str.lower) -> Keys | None:
    """The keys by their usual names, in the environment in capitals. Raises NoCredentialsError for half a pair."""
    pair = spell("aws_access_key_id"), spell("aws_secret_access_key")
    there = [name for name in pair if settings.get(name)]
    if len(there) == 1:
        missing = next(name for name in pair if name not in there)
        raise NoCredentialsError(f"{where} has {there[0]}, but not {missing}")
    token = _first(settings, spell("aws_session_token"), spell("aws_security_token"))
    return Keys(settings[pair[0]], settings[pair[1]], token) if there else None


class _Profile(NamedTuple):
    """The settings of a profile in both files."""

    config: Mapping[str, str]
    credentials: Mapping[str, str]

    @property
    def is_there(self) -> bool:
        return bool(self.config or self.credentials)


def aws_profile(name: str, environ: Mapping[str, str], read: ReadText) -> _Profile:
    """A profile. Raises NoCredentialsError for a file that cannot be parsed."""
    home = environ.get("HOME", "")
    config = environ.get("AWS_CONFIG_FILE") or f"{home}/.aws/config"
    credentials = environ.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials"
    paths = [f"{home}{path[1:]}" if path.startswith("~/") else path for path in (config, credentials)]
    return _Profile(_section(paths[0], name, read, is_config=True), _section(paths[1], name, read))


def _section(path: str, name: str, read: ReadText, *, is_config: bool = False) -> dict[str, str]:
    """The section of a profile, which in the configuration is called ``profile NAME``, and may be quoted."""
    text = _text(path, read)
    if not text:
        return {}
    from configparser import Error, RawConfigParser  # only where there is such a file

    parser = RawConfigParser(strict=False, default_section="")
    try:
        parser.read_string(text)
    except Error:
        raise NoCredentialsError(f"{path} cannot be parsed") from None
    found: dict[str, str] = {}
    for section in parser.sections():
        words = section.removeprefix("profile ").strip().strip("\"'") if is_config else section
        if words == name and (section.startswith("profile ") or not is_config or name == "default"):
            found.update({key: value.strip() for key, value in parser[section].items() if value})
    return found


def _container(environ: Mapping[str, str]) -> Container | None:
    relative = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    url = f"{_CONTAINER_URL}{relative}" if relative else environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
    if not url:
        return None
    host = _host_of(url, "AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if not url.startswith("https://") and host not in _CONTAINER_HOSTS and not host.startswith("127."):
        raise NoCredentialsError("AWS_CONTAINER_CREDENTIALS_FULL_URI must be https://, or an address of the machine")
    token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    return Container(url, token, environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", ""))


def _instance(environ: Mapping[str, str]) -> Instance:
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise NoCredentialsError("no AWS credentials (AWS_EC2_METADATA_DISABLED is set)")
    url = (environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _INSTANCE_URL).rstrip("/")
    _host_of(url, "AWS_EC2_METADATA_SERVICE_ENDPOINT")
    return Instance(url)


def _host_of(url: str, variable: str) -> str:
    """The host of an address. Raises NoCredentialsError for what is none."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_url = False
    if not is_url or not is_sendable(url):
        raise NoCredentialsError(f"{variable} is no address that begins with http:// or https://")
    return parts.hostname or ""


def is_on_aws(environ: Mapping[str, str], read: ReadText) -> bool:
    """Whether there is an instance's metadata, as far as that shows without asking."""
    return bool(environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")) or "Amazon" in _text(_MAKER_FILE, read)


# ---------------------------------------------------------------- for the configuration


_VARIABLES = {
    "project": ("ANTHROPIC_VERTEX_PROJECT_ID", "GOOGLE_CLOUD_PROJECT"),
    "location": ("CLOUD_ML_REGION", "GOOGLE_CLOUD_LOCATION"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}
"""Where the SDKs look for a field; of Google's cloud, Anthropic's SDK looks at the first."""


def usual_field(name: str, kind: str, environ: Mapping[str, str], read: ReadText) -> str:
    """What a field of an upstream is where neither the file nor its host's name says it.

    >>> usual_field("location", "gemini", {"CLOUD_ML_REGION": "us", "GOOGLE_CLOUD_LOCATION": "eu"}, lambda path: "")
    'eu'
    """
    variables = _VARIABLES.get(name, ())
    is_other = name in ("project", "location") and kind != CLAUDES
    found = _first(environ, *(variables[1:] if is_other else variables))
    if name == "region":
        return found or _profiles_region(environ, read)
    return found or ("global" if name == "location" else "")


def named_field(name: str, base_url: str) -> str:
    """What the host's name says of a field.

    >>> named_field("region", "https://bedrock-mantle.us-east-1.api.aws/v1")
    'us-east-1'
    """
    return {"location": location_of, "region": region_of}.get(name, lambda url: "")(base_url)


def _profiles_region(environ: Mapping[str, str], read: ReadText) -> str:
    profile = _first(environ, "AWS_PROFILE", "AWS_DEFAULT_PROFILE") or "default"
    try:
        return aws_profile(profile, environ, read).config.get("region", "")
    except NoCredentialsError:
        return ""


def _first(environ: Mapping[str, str], *names: str) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")


def is_api_key(key: str) -> bool:
    """Whether a key is one of Google's APIs, and no token."""
    return key.startswith(("AIza", "AQ."))


def needs_project(kind: str, references: Iterable[str]) -> bool:
    """Whether a format is not spoken without a project: all but Gemini's, with a plain (express) key."""
    return kind != _EXPRESS or any(one.startswith(("cmd:", GOOGLE)) for one in references)


def source_of(reference: str, environ: Mapping[str, str], read: ReadText) -> GoogleSource | AwsSource:
    """Where a reference leads to. Raises NoCredentialsError."""
    decide = google_source if reference.startswith(GOOGLE) else aws_source
    return decide(reference, environ, read)


class Question(NamedTuple):
    """A request for a secret; one that ``is_local`` goes to the machine or its network, where no proxy may see it."""

    method: str
    url: str
    headers: Headers
    body: bytes = b""
    is_local: bool = True


Asking = Generator[Question, str, Secret]
"""Asks one question after the other, is sent the text of each answer, and returns the secret."""


def questions(source: GoogleSource | AwsSource, own: str, wall: float) -> Asking:
    """How a source is asked. Raises ValueError for answers without a secret.

    :param own: what was read from the file, or printed by the command, that the source names
    """
    match source:
        case User():
            form = {"grant_type": "refresh_token", **dict(zip(User._fields[:3], source, strict=False))}
            headers = [("content-type", "application/x-www-form-urlencoded")]
            told = yield Question("POST", _TOKEN_URL, headers, urlencode(form).encode(), is_local=False)
            return secret_in(told, wall, source.quota_project)
        case Metadata():
            told = yield Question("GET", f"http://{source.host}{_TOKEN_PATH}", [("metadata-flavor", "Google")])
            return secret_in(told, wall, source.quota_project)
        case Keys():
            names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
            return secret_in(dumps(dict(zip(names, source, strict=True))), wall)
        case Process():
            return secret_of(own, wall)
        case Container():
            token = own or source.token
            if not is_sendable(token.replace(" ", "")):
                raise ValueError("the container's token contains characters not allowed in an HTTP header")
            told = yield Question("GET", source.url, [("authorization", token)] if token else [])
            return secret_in(told, wall)
        case Instance():
            return (yield from _instance_questions(source.url, wall))


def _instance_questions(url: str, wall: float) -> Asking:
    lifetime = [("x-aws-ec2-metadata-token-ttl-seconds", str(_SESSION_S))]
    try:
        session = (yield Question("PUT", url + _SESSION_PATH, lifetime)).strip()
    except UpstreamError:  # the older version has no sessions
        session = ""
    if not is_sendable(session):
        raise ValueError("the instance's metadata has answered with what is no session")
    headers = [("x-aws-ec2-metadata-token", session)] if session else []
    role = (yield Question("GET", url + _ROLE_PATH, headers)).partition("\n")[0].strip()
    if not role:
        raise ValueError("the instance has no role")
    told = yield Question("GET", f"{url}{_ROLE_PATH}{quote(role, safe='')}", headers)
    return secret_in(told, wall)


def remedy(source: GoogleSource | AwsSource) -> str:
    """What to do if a source has refused to answer, if anything."""
    is_login = isinstance(source, User)
    return "the login has expired; run: gcloud auth application-default login" if is_login else ""


def doubt(source: GoogleSource | AwsSource) -> str:
    """What is to be said of a source for which there is no sign."""
    if isinstance(source, Metadata):
        return "finds no file and will ask the metadata server; elsewhere run: gcloud auth application-default login"
    return "finds no keys and will ask the instance's metadata; elsewhere run: aws configure"


def described(source: GoogleSource | AwsSource) -> str:
    """A source for users."""
    names = {
        User: "application default credentials",
        Metadata: "the metadata server",
        Keys: "access keys",
        Process: "credential_process",
        Container: "the container's credentials",
        Instance: "the instance's metadata",
    }
    return names[type(source)]


def is_evident(source: GoogleSource | AwsSource, environ: Mapping[str, str], read: ReadText) -> bool:
    """Whether there is reason to believe in a source without asking it."""
    if isinstance(source, Metadata):
        return is_on_google(environ, read)
    return is_on_aws(environ, read) if isinstance(source, Instance) else True


def _text(path: str, read: ReadText) -> str:
    try:
        return read(path)
    except (OSError, ValueError):
        return ""


def _is_there(path: str, read: ReadText) -> bool:
    try:
        read(path)
    except (OSError, ValueError):
        return False
    return True
