"""Small answers of NetBox's API, kubectl and aws ec2, in their form and of our own making."""

from __future__ import annotations

from typing import Any

ACTIVE = {"value": "active", "label": "Active"}

NETBOX_DEVICES: dict[str, Any] = {
    "count": 3,
    "next": None,
    "previous": None,
    "results": [
        {
            "id": 1,
            "url": "https://netbox.example/api/dcim/devices/1/",
            "name": "web-1",
            "device_type": {"id": 1, "model": "R640"},
            "role": {"id": 1, "name": "Web server", "slug": "web"},
            "tenant": {"id": 1, "name": "Payments", "slug": "payments"},
            "site": {"id": 1, "name": "Lisbon"},
            "status": ACTIVE,
            "primary_ip": {"id": 1, "address": "198.18.0.7/24"},
            "primary_ip4": {"id": 1, "address": "198.18.0.7/24"},
            "primary_ip6": None,
            "tags": [{"id": 1, "name": "pci", "slug": "pci"}],
            "custom_fields": {"criticality": "critical", "expected": ["tcp/8443"]},
        },
        {
            "id": 2,
            "name": "web-2",
            "device_type": {"id": 1, "model": "R640"},
            "tenant": {"id": 1, "name": "Payments"},
            "status": ACTIVE,
            "primary_ip": {"address": "2001:db8::8/64"},
            "primary_ip4": {"address": "198.18.0.8/24"},
            "primary_ip6": {"address": "2001:db8::8/64"},
            "tags": [],
            "custom_fields": {"owner": "Platform", "criticality": {"value": "high", "label": "High"}},
        },
        {"id": 3, "name": "shelf", "device_type": {"id": 9}, "status": ACTIVE, "primary_ip": None, "tags": [], "custom_fields": {}},
    ],
}
NETBOX_ADDRESSES: dict[str, Any] = {
    "count": 2,
    "next": None,
    "results": [
        {"id": 1, "address": "198.18.0.7/24", "status": ACTIVE, "tenant": None, "role": None, "tags": [], "custom_fields": {}},
        {
            "id": 2,
            "address": "198.18.0.99/24",
            "status": {"value": "deprecated"},
            "role": {"value": "vip"},
            "tags": [],
            "custom_fields": {},
        },
    ],
}
NETBOX_PREFIXES: dict[str, Any] = {
    "count": 2,
    "next": None,
    "results": [
        {"id": 1, "prefix": "198.18.0.0/24", "status": ACTIVE, "tenant": {"name": "Payments"}, "tags": [], "custom_fields": {}},
        {"id": 2, "prefix": "198.18.0.0/16", "status": {"value": "container"}, "tenant": None, "tags": [], "custom_fields": {}},
    ],
}
NETBOX_SERVICES: dict[str, Any] = {
    "count": 1,
    "next": None,
    "results": [
        {
            "id": 1,
            "device": {"id": 1, "name": "web-1"},
            "virtual_machine": None,
            "name": "https",
            "ports": [443],
            "protocol": {"value": "tcp", "label": "TCP"},
            "ipaddresses": [],
            "tags": [],
            "custom_fields": {},
        }
    ],
}

KUBECTL: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "List",
    "metadata": {"resourceVersion": ""},
    "items": [
        {
            "kind": "Service",
            "metadata": {
                "name": "shop",
                "namespace": "shop",
                "labels": {"example.org/team": "shop"},
                "annotations": {"criticality": "high"},
            },
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": "10.96.0.7",
                "ports": [{"port": 443, "protocol": "TCP"}, {"port": 443, "protocol": "UDP"}, {"port": 9, "protocol": "SCTP"}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "198.18.1.10"}]}},
        },
        {
            "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": None},
            "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": [{"port": 443}]},
            "status": {"loadBalancer": {}},
        },
        {
            "kind": "Ingress",
            "metadata": {"name": "www", "namespace": "shop"},
            "spec": {"rules": [{"host": "www.example.org"}], "tls": [{"hosts": ["www.example.org"]}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "198.18.1.20"}, {"hostname": "lb.example.org"}]}},
        },
        {
            "kind": "Node",
            "metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux"}},
            "spec": {"podCIDR": "10.244.0.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": "198.18.1.30"}, {"type": "Hostname", "address": "n1"}]},
        },
        {"kind": "ConfigMap", "metadata": {"name": "x"}},
    ],
}

AWS_INSTANCES: dict[str, Any] = {
    "Reservations": [
        {
            "ReservationId": "r-1",
            "Instances": [
                {
                    "InstanceId": "i-1",
                    "State": {"Code": 16, "Name": "running"},
                    "PrivateIpAddress": "10.0.0.5",
                    "NetworkInterfaces": [
                        {
                            "NetworkInterfaceId": "eni-1",
                            "Ipv6Addresses": [{"Ipv6Address": "2001:db8::5"}],
                            "PrivateIpAddresses": [{"Primary": True, "PrivateIpAddress": "10.0.0.5"}],
                        }
                    ],
                    "Tags": [
                        {"Key": "Name", "Value": "index-1"},
                        {"Key": "Owner", "Value": "Search"},
                        {"Key": "Criticality", "Value": "High"},
                        {"Key": "expected", "Value": "tcp/9200"},
                    ],
                },
                {"InstanceId": "i-2", "State": {"Code": 48, "Name": "terminated"}, "PrivateIpAddress": "10.0.0.6"},
            ],
        }
    ]
}
AWS_INTERFACES: dict[str, Any] = {
    "NetworkInterfaces": [
        {
            "NetworkInterfaceId": "eni-9",
            "PrivateIpAddress": "10.0.0.9",
            "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.0.9"}],
            "TagSet": [],
        },
    ]
}
