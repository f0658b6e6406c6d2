"""What is applied to a cluster is right by Kubernetes' own schemas, and its parts fit each other and the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
from twisted.trial.unittest import SynchronousTestCase

from echosvc import __version__
from echosvc.listeners import Internet
from echosvc.settings import Settings, read_config
from tests.deploy.kustomize import KUBERNETES, named, read, render

BASE = KUBERNETES / "base"
LABELS = {"app.kubernetes.io/name": "echosvc"}


def settings() -> Settings:
    """What the pods are told to serve."""
    return read_config(str(BASE / "echosvc.toml"))


def deployment() -> dict[str, Any]:
    """The Deployment of the base."""
    return named(render(BASE), "Deployment")


def pod() -> dict[str, Any]:
    """What the Deployment says of each pod."""
    found: dict[str, Any] = deployment()["spec"]["template"]["spec"]
    return found


def container() -> dict[str, Any]:
    """The pod's one container."""
    (found,) = pod()["containers"]
    return dict(found)


class SchemaTests(SynchronousTestCase):
    """Kubernetes would take all of it."""

    def check(self, objects: list[dict[str, Any]]) -> None:
        """Hold objects against the schemas; unknown fields are mistakes, too."""
        latest = kubernetes_validate.latest_version()
        for each in objects:
            kubernetes_validate.validate(each, latest, strict=True)

    def test_base(self) -> None:
        """The base is valid."""
        objects = render(BASE)

        self.check(objects)
        self.assertEqual(
            sorted(each["kind"] for each in objects),
            ["ConfigMap", "Deployment", "PodDisruptionBudget", "Service"],
        )

    def test_daemonset(self) -> None:
        """So is what the DaemonSet's patches make of it; a DaemonSet cannot have a disruption budget."""
        objects = render(KUBERNETES / "daemonset")

        self.check(objects)
        self.assertEqual(sorted(each["kind"] for each in objects), ["ConfigMap", "DaemonSet", "Service"])

    def test_service_for_prometheus(self) -> None:
        """So is the Service by which Prometheus finds the pods; the monitor itself is of another project."""
        objects = render(KUBERNETES / "servicemonitor")

        self.check([named(objects, "Service", "echosvc-admin")])
        self.assertEqual(named(objects, "ServiceMonitor")["apiVersion"], "monitoring.coreos.com/v1")

    def test_wrong_fields_are_found(self) -> None:
        """A misspelt field would not pass."""
        wrong = deployment()
        wrong["spec"]["replica"] = 2

        with self.assertRaises(kubernetes_validate.ValidationError):
            self.check([wrong])


class FilesTests(SynchronousTestCase):
    """Nothing is left lying about."""

    def test_every_file_is_used(self) -> None:
        """Each kustomization names every file of its folder."""
        for directory in (each.parent for each in KUBERNETES.rglob("kustomization.yaml")):
            said = read(directory / "kustomization.yaml")
            used = {
                "kustomization.yaml",
                *said.get("resources", []),
                *(each["path"] for each in said.get("patches", [])),
                *(name for each in said.get("configMapGenerator", []) for name in each["files"]),
            }

            self.assertEqual(
                {each for each in used if "/" not in each}, {p.name for p in directory.iterdir()}
            )

    def test_image_is_of_this_version(self) -> None:
        """The image that is asked for is this version's."""
        self.assertEqual(container()["image"], f"registry.example.com/echosvc:{__version__}")


class WiringTests(SynchronousTestCase):
    """The objects find each other."""

    def test_everything_means_the_same_pods(self) -> None:
        """Each selector names the pods' label; an empty one of a budget would mean every pod there is."""
        objects = [*render(BASE), *render(KUBERNETES / "servicemonitor")]
        by_labels = [named(objects, "Deployment"), named(objects, "PodDisruptionBudget")]
        services = [named(objects, "Service"), named(objects, "Service", "echosvc-admin")]

        self.assertEqual([each["spec"]["selector"]["matchLabels"] for each in by_labels], [LABELS] * 2)
        self.assertEqual([each["spec"]["selector"] for each in services], [LABELS] * 2)
        self.assertEqual(deployment()["spec"]["template"]["metadata"]["labels"], LABELS)
        self.assertEqual(pod()["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"], LABELS)

    def test_services_lead_to_ports_of_the_pod(self) -> None:
        """TCP and UDP of port 7 end where the pod has them, by name and protocol."""
        objects = [*render(BASE), *render(KUBERNETES / "servicemonitor")]
        ports = {(each["name"], each["protocol"]) for each in container()["ports"]}
        asked = [
            [(each["targetPort"], each["protocol"]) for each in service["spec"]["ports"]]
            for service in objects
            if service["kind"] == "Service"
        ]

        self.assertEqual(asked, [[("echo-tcp", "TCP"), ("echo-udp", "UDP")], [("admin", "TCP")]])
        self.assertEqual({each for some in asked for each in some}, ports)

    def test_prometheus_finds_the_admin_service(self) -> None:
        """The monitor's labels and port are those of the Service beside it, and of no other."""
        objects = [*render(BASE), *render(KUBERNETES / "servicemonitor")]
        monitor = named(objects, "ServiceMonitor")["spec"]
        wanted = monitor["selector"]["matchLabels"].items()
        found = [
            each
            for each in objects
            if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
        ]

        self.assertEqual([each["metadata"]["name"] for each in found], ["echosvc-admin"])
        self.assertEqual(
            [each["port"] for each in monitor["endpoints"]], [found[0]["spec"]["ports"][0]["name"]]
        )

    def test_on_nodes_port_seven(self) -> None:
        """The DaemonSet's pods have port 7 of their node, TCP and UDP, and nothing else of it."""
        pods = named(render(KUBERNETES / "daemonset"), "DaemonSet")["spec"]["template"]["spec"]
        ports = {each["name"]: each.get("hostPort") for each in pods["containers"][0]["ports"]}

        self.assertEqual(ports, {"echo-tcp": 7, "echo-udp": 7, "admin": None})


class FitTests(SynchronousTestCase):
    """The pod fits what the service is told."""

    def test_ports_are_those_of_the_file(self) -> None:
        """The pod's ports are what echosvc.toml listens on, admin included."""
        admin = settings().admin
        assert admin is not None
        listening = {
            (each.place.port, each.place.transport.upper())
            for each in [*settings().listeners, admin]
            if isinstance(each.place, Internet)
        }

        self.assertEqual(
            {(each["containerPort"], each["protocol"]) for each in container()["ports"]}, listening
        )

    def test_admin_is_for_others(self) -> None:
        """Probes come to the pod's address, not to its loopback."""
        admin = settings().admin
        assert admin is not None
        assert isinstance(admin.place, Internet)

        self.assertEqual(admin.place.interface, "0.0.0.0")

    def test_drain_ends_before_the_kill(self) -> None:
        """There are some seconds left of the pod's last ones after preStop and the drain."""
        *_, wait = container()["lifecycle"]["preStop"]["exec"]["command"]

        self.assertGreaterEqual(pod()["terminationGracePeriodSeconds"], int(wait) + settings().grace + 5)

    def test_file_is_where_it_is_looked_for(self) -> None:
        """The arguments name a file of the ConfigMap, where that is mounted."""
        _, path = container()["args"]
        (mount,) = container()["volumeMounts"]
        (volume,) = pod()["volumes"]
        data = named(render(BASE), "ConfigMap", volume["configMap"]["name"])["data"]

        self.assertEqual(mount["name"], volume["name"])
        self.assertIn(str(Path(path).relative_to(mount["mountPath"])), data)

    def test_probes(self) -> None:
        """Ready is asked of /readyz, alive of /healthz, on the admin port."""
        asked = {
            name: container()[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")
        }

        self.assertEqual({each["port"] for each in asked.values()}, {"admin"})
        self.assertEqual([each["path"] for each in asked.values()], ["/readyz", "/readyz", "/healthz"])

    def test_rights(self) -> None:
        """No root, no capability, nothing to write to, the runtime's system call filter, no token."""
        self.assertEqual(
            pod()["securityContext"],
            {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        )
        self.assertEqual(
            container()["securityContext"],
            {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        )
        self.assertIs(pod()["automountServiceAccountToken"], False)
        self.assertEqual(container()["resources"]["limits"], {"memory": "256Mi"})
