"""Render the chart under several values, lint it and validate the manifests; write those of the defaults to a file.

    pip install helm-python-sdk kubernetes-validate
    python deploy/helm/check.py

The file, deploy/kubernetes/normgauge.yaml, is for clusters without Helm, and for the tests, which need no Helm: its
first line has the digest of the chart that it was rendered from.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "normgauge"
RENDERED = Path(__file__).parents[1] / "kubernetes" / "normgauge.yaml"
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": {
        "autoscaling": {"enabled": True},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "certificate"},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "ingest": {
            "prefixes": ["s3://a/", "s3://b/c/"],
            "endpoint": "https://store",
            "region": "eu-west-1",
            "existingSecret": "store",
        },
        "networkPolicy": {
            "from": [{"namespaceSelector": {"matchLabels": {"name": "training"}}}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 5432}]}],
        },
        "settings": {"MAX_ROWS": "1000000", "TRACING": "otlp"},
        "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}],
        "trustedProxies": ["10.244.0.0/16", "10.0.0.7"],
        "imagePullSecrets": [{"name": "registry"}],
        "podAnnotations": {"team": "data"},
        "nodeSelector": {"kind": "cpu"},
        "tolerations": [{"key": "cpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "service": {"annotations": {"a": "b"}},
        "serviceAccount": {"annotations": {"role": "reader"}},
    },
    "least": {
        "migration": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
    },
}
WRONG: dict[str, dict[str, Any]] = {
    "no replicas": {"replicas": 0},
    "no secret": {"database": {"existingSecret": ""}},
    "a setting in small letters": {"settings": {"max_rows": "1"}},
    "a proxy that is no address": {"trustedProxies": ["ingress"]},
}
VERSIONS = ("1.27.0", "1.31.0", "1.34.0")


def chart_digest() -> str:
    """Return the SHA-256 of the chart's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in CHART.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(CHART)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the manifests of the chart under these values."""
    import helm_python

    rendered = helm_python.Chart.load(CHART).render(values, name="normgauge", namespace="default")
    texts = [text for name, text in sorted(rendered.items()) if name.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def main() -> int:
    """Check everything and write the file; return 1 where something is wrong."""
    import helm_python
    import kubernetes_validate

    messages = helm_python.lint(str(CHART))["messages"]
    found = [f"lint: {message}" for message in messages if message["severity"] > 1]  # 1: a wish, as for an icon
    for name, values in VALUES.items():
        for manifest in render(values):
            if manifest["apiVersion"].startswith("monitoring.coreos.com"):
                continue  # its schema is the operator's
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(manifest, version, strict=True)
                except Exception as error:  # the library has no base class of its errors
                    found.append(f"{name}, {manifest['kind']}, Kubernetes {version}: {error}")
        print(f"{name}: {', '.join(sorted(manifest['kind'] for manifest in render(values)))}")
    for name, values in WRONG.items():
        try:
            render(values)
            found.append(f"{name}: rendered, though the schema of the values forbids it")
        except helm_python.HelmError as error:
            print(f"{name}: refused ({str(error).splitlines()[-1].strip()})")
    print("\n".join(found) or f"Kubernetes {', '.join(VERSIONS)}: all valid")
    RENDERED.parent.mkdir(exist_ok=True)
    head = f"# chart sha256:{chart_digest()}\n# Rendered by deploy/helm/check.py from its defaults: change the chart.\n"
    RENDERED.write_text(head + yaml.safe_dump_all(render({}), sort_keys=False, width=120))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
