"""Fetches packages from a package index and unpacks their Python files. Nothing of them is run or installed.

Reads JSON lines `{"package": "NAME==VERSION", "cache": FOLDER, "index": URL or null}` and answers each with
`{"folder", "licence", "sha256", "files"}`, or `{"refused": REASON}` where the package cannot
be used, or `{"error": TEXT}` where it could not be found out. An index is asked by the simple repository API
(PEP 503, PEP 691); without an URL it is the one of pip's settings. The newest form is taken: a source
distribution, or else a wheel for any platform.
"""

import configparser
import email.parser
import errno
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import ssl
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib

MOST_BYTES = 80 << 20
MOST_FILES = 20000
MOST_UNPACKED = 400 << 20
MOST_FILE_BYTES = 2 << 20
ACCEPT = "application/vnd.pypi.simple.v1+json"
DONE = "package.json"

CLASSIFIERS = {
    "MIT License": "MIT", "BSD License": "BSD-3-Clause", "Apache Software License": "Apache-2.0", "MIT No Attribution License (MIT-0)": "MIT-0",
    "ISC License (ISCL)": "ISC", "Python Software Foundation License": "PSF-2.0", "zlib/libpng License": "Zlib",
    "The Unlicense (Unlicense)": "Unlicense", "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Zope Public License": "ZPL-2.1", "Public Domain": "LicenseRef-Public-Domain",
}
# What people write into the field of the licence, in small letters without punctuation.
FIELDS = {
    "mit": "MIT", "mit license": "MIT", "the mit license": "MIT", "the mit license mit": "MIT", "expat": "MIT", "bsd": "BSD-3-Clause", "bsd license": "BSD-3-Clause",
    "bsd 3clause": "BSD-3-Clause", "bsd3clause": "BSD-3-Clause", "3clause bsd": "BSD-3-Clause", "new bsd": "BSD-3-Clause", "new bsd license": "BSD-3-Clause",
    "modified bsd": "BSD-3-Clause", "bsd 3clause license": "BSD-3-Clause", "bsd 2clause": "BSD-2-Clause", "bsd 2clause license": "BSD-2-Clause", "bsd2clause": "BSD-2-Clause", "simplified bsd": "BSD-2-Clause",
    "apache 20": "Apache-2.0", "apache20": "Apache-2.0", "apache2": "Apache-2.0", "apache": "Apache-2.0", "apache license 20": "Apache-2.0", "apache license": "Apache-2.0",
    "apache license version 20": "Apache-2.0", "apache software license": "Apache-2.0", "apache software license 20": "Apache-2.0", "asl 20": "Apache-2.0", "isc": "ISC", "isc license": "ISC",
    "psf": "PSF-2.0", "psf20": "PSF-2.0", "python": "PSF-2.0", "python software foundation license": "PSF-2.0", "zlib": "Zlib", "unlicense": "Unlicense", "the unlicense": "Unlicense",
    "public domain": "LicenseRef-Public-Domain", "cc0": "CC0-1.0", "cc010": "CC0-1.0", "wtfpl": "WTFPL", "0bsd": "0BSD", "mit0": "MIT-0",
}


class Refused(Exception):
    """The package cannot be used; the argument says why, in the words of `Refusal`."""


class Failed(Exception):
    """It could not be found out whether it can."""


def settings_of_pip():
    """The index and the certificates that pip would use."""
    found = {}
    home = os.path.expanduser("~")
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    paths = ["/etc/pip.conf", "/etc/xdg/pip/pip.conf", os.path.join(home, ".pip/pip.conf"), os.path.join(base, "pip/pip.conf"), os.environ.get("PIP_CONFIG_FILE")]
    parser = configparser.RawConfigParser()
    try:
        parser.read([path for path in paths if path], "utf-8")
    except (configparser.Error, OSError, ValueError):
        parser.clear()
    if parser.has_section("global"):
        # Words in names are separated by either sign.
        found.update((name.replace("-", "_"), value) for name, value in parser.items("global"))
    for name in ("index_url", "cert"):
        value = os.environ.get("PIP_" + name.upper())
        if value:
            found[name] = value
    return found


def usual_index():
    """The index that pip asks if nothing is said."""
    try:
        from pip._internal.models.index import PyPI
    except ImportError:
        raise Failed("the interpreter has no pip that would know a package index; name one with --index")
    return PyPI.simple_url


class Index:
    def __init__(self, url):
        settings = settings_of_pip()
        self.url = (url or settings.get("index_url") or usual_index()).rstrip("/") + "/"
        certificates = settings.get("cert") or os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
        context = ssl.create_default_context(cafile=certificates if certificates and os.path.isfile(certificates) else None)
        handlers = [urllib.request.HTTPSHandler(context=context)]
        address = urllib.parse.urlsplit(self.url)
        if address.username:
            # Credentials go into a header, not into the address.
            manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
            user, password = map(urllib.parse.unquote, (address.username, address.password or ""))
            host = address.netloc.rpartition("@")[2]
            self.url = urllib.parse.urlunsplit(address._replace(netloc=host))
            manager.add_password(None, self.url, user, password, is_authenticated=True)
            handlers.append(urllib.request.HTTPBasicAuthHandler(manager))
        self.opener = urllib.request.build_opener(*handlers)

    def get(self, url, most):
        problem = None
        for attempt in range(4):
            if attempt:
                time.sleep(1 << attempt)
            try:
                request = urllib.request.Request(url, headers={"Accept": ACCEPT + ", text/html;q=0.1", "User-Agent": "cwm-data"})
                with self.opener.open(request, timeout=60) as answer:
                    data = answer.read(most + 1)
                    if len(data) > most:
                        raise Refused("too_large")
                    promised = answer.headers.get("Content-Length")
                    if promised is not None and len(data) != int(promised):
                        raise EOFError("the connection was cut")
                    return data, answer.headers.get("Content-Type", ""), answer.geturl()
            except urllib.error.HTTPError as error:
                if error.code in (404, 410):
                    raise Refused("not_in_index")
                problem = error
            except (OSError, ValueError, EOFError, http.client.HTTPException) as error:
                problem = error
        # The address may hold a secret.
        raise Failed("%s: %s" % (urllib.parse.urlsplit(url).hostname, problem))

    def files(self, name):
        """Names, addresses and hashes of the files of a project."""
        url = urllib.parse.urljoin(self.url, re.sub("[-_.]+", "-", name).lower() + "/")
        data, kind, url = self.get(url, MOST_BYTES)
        if "json" in kind:
            files = json.loads(data.decode())["files"]
            return [(f["filename"], urllib.parse.urljoin(url, f["url"]), f.get("hashes", {}).get("sha256")) for f in files]
        links = re.findall(r'<a[^>]*href="([^"]+)"[^>]*>([^<]+)</a>', data.decode("utf-8", "replace"))
        parts = [(text.strip(), urllib.parse.urljoin(url, link).partition("#")) for link, text in links]
        return [(name, link, fragment.partition("sha256=")[2] or None) for name, (link, _, fragment) in parts]


def version_of(filename, name):
    """The version and kind of a file, or None if it is no file that can be used."""
    project = re.sub("[-_.]+", "-", name).lower()
    for ending in (".tar.gz", ".zip"):
        if filename.endswith(ending):
            stem, _, version = filename[: -len(ending)].rpartition("-")
            if re.sub("[-_.]+", "-", stem).lower() == project:
                return version, "source"
    parts = filename[:-4].split("-") if filename.endswith(".whl") else ()
    if len(parts) in (5, 6) and parts[-1] == "any" and "py3" in parts[-3] and re.sub("[-_.]+", "-", parts[0]).lower() == project:
        return parts[1], "wheel"
    return None


def choose(files, name, version):
    """The file of a version: the source distribution, or else the wheel."""
    found = {}
    for filename, url, sha256 in files:
        is_of = version_of(filename, name)
        if is_of and is_of[0] == version:
            found.setdefault(is_of[1], (filename, url, sha256))
    if not found:
        raise Refused("no_such_version" if not any(version in f for f, _, _ in files) else "no_source")
    return found.get("source") or found["wheel"]


def members(filename, data):
    """Names and contents of the files in an archive that are of use."""
    if filename.endswith(".tar.gz"):
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for member in archive:
                name = member.name.partition("/")[2]
                if member.isreg() and is_wanted(name, member.size):
                    yield name, archive.extractfile(member).read()
    else:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                # A wheel has no folder around it.
                name = member.filename.partition("/")[2] if filename.endswith(".zip") else member.filename
                if is_wanted(name, member.file_size):
                    yield name, archive.read(member)


def is_wanted(name, size):
    """Whether a file is of use, and its name one that stays below the folder it is unpacked to."""
    parts = name.split("/")
    is_plain = all(part not in ("", ".", "..") for part in parts) and not set(name) & set("\\:\0")
    try:
        name.encode()
    except UnicodeError:
        return False
    return is_plain and size <= MOST_FILE_BYTES and (name.endswith(".py") or parts[-1] in ("PKG-INFO", "METADATA"))


def claims_of(metadata):
    """What the package says of its licence."""
    named = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier", []) if text.startswith("License ::")]
    return {
        "expression": (metadata.get("License-Expression") or "").strip(),
        "field": (metadata.get("License") or "")[:2000],
        "classifiers": [name for name in named if name != "OSI Approved"],
    }


def licence_of(claims):
    """An SPDX expression; `unknown` where there is none, or where what is said does not agree."""
    if claims["expression"]:
        return claims["expression"]
    field = re.sub(r"[^a-z0-9 \n]", "", claims["field"].lower()).strip()
    if re.search(r"\b(l|a)?gpl|general public|affero|proprietary|commercial|mozilla|\bmpl", field[:400]):
        return "unknown"
    known = {CLASSIFIERS.get(name, "unknown") for name in claims["classifiers"]}
    if "unknown" in known:
        return "unknown"
    # Some put the whole text there, under its name.
    of_field = FIELDS.get(field.partition("\n")[0].strip())
    if of_field and known and of_field not in known and not (of_field[:3] == "BSD" and "BSD-3-Clause" in known):
        return "unknown"
    if of_field:
        return of_field
    # All that is named holds, as far as anybody can tell.
    return " AND ".join(sorted(known)) or "unknown"


def unpack(filename, data, folder):
    """Writes the files, and says which they are and what the metadata says."""
    files, metadata, total = [], None, 0
    try:
        for name, content in members(filename, data):
            if name.rpartition("/")[2] in ("PKG-INFO", "METADATA"):
                if metadata is None or name.count("/") < metadata[0]:
                    metadata = name.count("/"), content
                continue
            total += len(content)
            if len(files) >= MOST_FILES or total > MOST_UNPACKED:
                raise Refused("too_large")
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
            files.append(name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, UnicodeError, NotImplementedError, RuntimeError):
        raise Refused("damaged")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        # Names that no folder can have.
        raise Refused("damaged")
    if metadata is None:
        raise Refused("no_metadata")
    parsed = email.parser.Parser().parsestr(metadata[1].decode("utf-8", "replace"))
    return sorted(set(files)), claims_of(parsed)


def fetch(index, package, cache):
    name, _, version = package.partition("==")
    folder = os.path.join(cache, re.sub(r"[^\w.-]", "_", "%s-%s" % (name, version)))
    try:
        with open(os.path.join(folder, DONE)) as file:
            return answered(json.load(file), folder)
    except (OSError, ValueError, KeyError, TypeError):
        # Not there, or of another version.
        shutil.rmtree(folder, ignore_errors=True)
    filename, url, sha256 = choose(index().files(name), name, version)
    data, _, _ = index().get(url, MOST_BYTES)
    found = hashlib.sha256(data).hexdigest()
    if sha256 not in (None, found):
        raise Failed("what was sent for %s is not what the index promises" % filename)
    os.makedirs(cache, exist_ok=True)
    partial = tempfile.mkdtemp(dir=cache, prefix=".partial-")
    try:
        files, claims = unpack(filename, data, partial)
        about = {"sha256": found, "claims": claims, "files": files}
        with open(os.path.join(partial, DONE), "w") as file:
            json.dump(about, file)
        try:
            os.rename(partial, folder)
        except OSError:
            # Another build was quicker.
            if not os.path.isfile(os.path.join(folder, DONE)):
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return answered(about, folder)


def answered(about, folder):
    return {"folder": folder, "licence": licence_of(about["claims"]), "sha256": about["sha256"], "files": about["files"]}


def clean(cache):
    """Removes what builds that were killed have left."""
    for entry in os.listdir(cache) if os.path.isdir(cache) else ():
        path = os.path.join(cache, entry)
        if entry.startswith(".partial-") and time.time() - os.path.getmtime(path) > 3600:
            shutil.rmtree(path, ignore_errors=True)


def answer(request, indexes):
    def index():
        url = request["index"]
        if url not in indexes:
            indexes[url] = Index(url)
        return indexes[url]

    try:
        clean(request["cache"])
        return fetch(index, request["package"], request["cache"])
    except Refused as refused:
        return {"refused": str(refused)}
    except Failed as failed:
        return {"error": str(failed)}
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}


known = {}
for line in sys.stdin:
    sys.stdout.write(json.dumps(answer(json.loads(line), known)) + "\n")
    sys.stdout.flush()
