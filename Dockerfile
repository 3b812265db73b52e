# syntax=docker/dockerfile:1
# The server, and with other commands the gateway's stand-in and the installer of the sounds.
# No secret is an ARG or an ENV here: what it needs to know it is told when it runs.

FROM python:3.13-slim-bookworm AS build
WORKDIR /build
# What runs beside us: only what requirements.lock names, only files whose hash stands in it, only wheels, so that
# no foreign code runs while the image is built. Without pip: what runs installs nothing.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv --without-pip /opt/ivr-agi \
 && pip --python /opt/ivr-agi/bin/python install --no-cache-dir --only-binary :all: --require-hashes --requirement requirements.lock
# Ourselves: a wheel first, made by a builder that is locked in the same way, then the environment is complete. What is
# tested on a machine is what lies in the image, and neither pip's cache nor the sources come along.
RUN python -m venv tools \
 && tools/bin/pip install --no-cache-dir --only-binary :all: --require-hashes --requirement requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY ivr_agi ivr_agi
COPY sounds sounds
COPY asterisk-conf asterisk-conf
COPY systemd systemd
RUN tools/bin/pip wheel --no-cache-dir --no-index --no-build-isolation --no-deps --wheel-dir wheels . \
 && pip --python /opt/ivr-agi/bin/python install --no-cache-dir --no-index --no-deps wheels/ivr_agi-*.whl \
 && pip --python /opt/ivr-agi/bin/python check


FROM python:3.13-slim-bookworm
# Fixed numbers, so that files and volumes can be given to this user from outside.
RUN groupadd --gid 10001 ivr-agi \
 && useradd --uid 10001 --gid ivr-agi --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ivr-agi \
 && install --directory --owner=ivr-agi --group=ivr-agi --mode=0700 /var/lib/ivr-agi \
 && install --directory --owner=ivr-agi --group=ivr-agi --mode=0755 /srv/sounds
COPY --from=build /opt/ivr-agi /opt/ivr-agi
# Byte code was written when the wheel was installed; nothing is written into a read-only file system.
ENV PATH=/opt/ivr-agi/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    IVR_AGI_HTTP_PORT=8573
# The journal; whatever else is written goes nowhere. Not /srv: a `.env` found here would be read.
WORKDIR /var/lib/ivr-agi
USER 10001:10001
# FastAGI, and health with metrics. EXPOSE publishes nothing.
EXPOSE 4573 8573
# The first SIGTERM drains: calls end, payments are carried through.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['IVR_AGI_HTTP_PORT'] + '/healthz', timeout=2)"]
ENTRYPOINT ["ivr-agi"]
CMD ["serve"]
