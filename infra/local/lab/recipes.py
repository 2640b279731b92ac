"""How each kind of service is configured and started, in the foreground. Pure: text and argument lists only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from infra.local.lab.certificates import Certificate
from infra.local.lab.plan import Kind, Service


@dataclass(frozen=True, slots=True)
class Recipe:
    """A daemon's argument list and the files it needs; `{folder}` was filled in already. `as_root`: drops its rights by itself."""

    argv: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    as_root: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """Where a daemon runs: the addresses it binds, the folder of its files, its certificate or host key, sshd's version."""

    addresses: tuple[str, ...]
    folder: str
    certificate: Certificate | None = None
    host_key: str = ""
    ssh_version: tuple[int, ...] = ()


NGINX = """user root; daemon off; master_process off; pid {folder}/pid; error_log stderr; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;
  fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    {listen}
    {tls}
    location / {{ default_type text/html; return 200 "<html><head><title>{title}</title></head><body>Driftline lab</body></html>"; }}
  }}
}}
"""
MODERN_TLS = "ssl_protocols TLSv1.2 TLSv1.3; add_header Strict-Transport-Security max-age=31536000;"
OLD_TLS = "ssl_protocols TLSv1 TLSv1.1 TLSv1.2; ssl_ciphers ALL:@SECLEVEL=0;"


def _nginx(service: Service, site: Site) -> Recipe:
    names = [f"[{address}]" if ":" in address else address for address in site.addresses]
    flag = " ssl" if site.certificate else ""
    listen = " ".join(f"listen {name}:{service.port}{flag};" for name in names)
    files, tls = {}, ""
    if site.certificate:
        files = {"tls.pem": site.certificate.pem, "tls.key": site.certificate.key_pem}
        tls = f"ssl_certificate {site.folder}/tls.pem; ssl_certificate_key {site.folder}/tls.key; "
        tls += OLD_TLS if service.certificate == "expired" else MODERN_TLS
    files["nginx.conf"] = NGINX.format(folder=site.folder, listen=listen, tls=tls, title=service.host)
    return Recipe(("nginx", "-e", "stderr", "-p", site.folder, "-c", f"{site.folder}/nginx.conf"), files)


def _sshd(service: Service, site: Site) -> Recipe:
    lines = [
        *(f"ListenAddress {address}" for address in site.addresses),
        f"Port {service.port}",
        f"HostKey {site.folder}/host_key",
        "PidFile none",
        "UsePAM no",
        "PermitRootLogin no",
        "AuthorizedKeysFile none",
        "MaxStartups 200",
    ]
    if site.ssh_version >= (9, 8):  # from then on sshd bars an address that connects and leaves, as every scanner does
        lines.append("PerSourcePenalties no")
    files = {"sshd_config": "\n".join(lines) + "\n", "host_key": site.host_key}
    return Recipe(("/usr/sbin/sshd", "-D", "-e", "-f", f"{site.folder}/sshd_config"), files, as_root=True)


def _redis(service: Service, site: Site) -> Recipe:
    options = {"port": str(service.port), "protected-mode": "no", "appendonly": "no", "hz": "1", "dir": site.folder}
    given = (part for name, value in options.items() for part in (f"--{name}", value))
    # Open as it is, no one may write files or load code through it.
    closed = (
        part for name in ("CONFIG", "MODULE", "DEBUG", "REPLICAOF", "SLAVEOF", "SAVE", "BGSAVE") for part in ("--rename-command", name, "")
    )
    return Recipe(("redis-server", *given, "--save", "", *closed, "--bind", *site.addresses))


def _memcached(service: Service, site: Site) -> Recipe:
    return Recipe(("memcached", "-t", "1", "-m", "8", "-U", "0", "-p", str(service.port), "-l", ",".join(site.addresses)))


def _vsftpd(service: Service, site: Site) -> Recipe:
    options = {
        "listen": "YES",
        "listen_address": site.addresses[0],
        "listen_port": str(service.port),
        "background": "NO",
        "anonymous_enable": "YES",
        "local_enable": "NO",
        "anon_root": f"{site.folder}/files",
        "ftp_username": "ftp",
        "nopriv_user": "nobody",
        "secure_chroot_dir": f"{site.folder}/empty",
        "seccomp_sandbox": "NO",
    }
    text = "".join(f"{name}={value}\n" for name, value in options.items())
    files = {"vsftpd.conf": text, "files/readme.txt": "Driftline lab\n", "empty/": ""}
    return Recipe(("vsftpd", f"{site.folder}/vsftpd.conf"), files, as_root=True)


def _mosquitto(service: Service, site: Site) -> Recipe:
    listeners = "".join(f"listener {service.port} {address}\n" for address in site.addresses)
    return Recipe(
        ("mosquitto", "-c", f"{site.folder}/mosquitto.conf"),
        {"mosquitto.conf": listeners + "allow_anonymous true\npersistence false\nlog_dest stderr\n"},
    )


RECIPES: dict[Kind, Callable[[Service, Site], Recipe]] = {
    "http": _nginx,
    "https": _nginx,
    "ssh": _sshd,
    "redis": _redis,
    "memcached": _memcached,
    "ftp": _vsftpd,
    "mqtt": _mosquitto,
}
