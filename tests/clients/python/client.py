"""The Python client's part of the matrix. Prints what it did; fails with an exception."""

import json
import os
import threading
import time

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

namespace = os.environ["NAMESPACE"]
definition = json.loads(os.environ["DEFINITION"])
exec_image = os.environ["EXEC_IMAGE"]
config.load_kube_config()
core = client.CoreV1Api()


def built_in():
    made = core.create_namespaced_config_map(namespace, {"metadata": {"name": "one"}, "data": {"a": "b"}})
    assert made.metadata.uid
    assert core.read_namespaced_config_map("one", namespace).data == {"a": "b"}
    names = [item.metadata.name for item in core.list_namespaced_config_map(namespace).items]
    assert "one" in names, names
    patched = core.patch_namespaced_config_map("one", namespace, {"data": {"c": "d"}})
    assert patched.data == {"a": "b", "c": "d"}, patched.data
    try:
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "one"}})
        raise AssertionError("a second object of the same name")
    except ApiException as refused:
        assert refused.status == 409, refused


def watching():
    version = core.list_namespaced_config_map(namespace).metadata.resource_version

    def write():
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "watched"}})
        core.patch_namespaced_config_map("watched", namespace, {"data": {"x": "y"}})
        core.delete_namespaced_config_map("watched", namespace)

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    stream = watch.Watch()
    for event in stream.stream(
        core.list_namespaced_config_map, namespace, resource_version=version, timeout_seconds=30
    ):
        if event["object"].metadata.name == "watched":
            seen.append(event["type"])
            if event["type"] == "DELETED":
                stream.stop()
    writer.join()
    assert seen == ["ADDED", "MODIFIED", "DELETED"], seen


def applied_and_deleted():
    resources = dynamic.DynamicClient(client.ApiClient()).resources
    maps = resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": "1"}}
    maps.server_side_apply(body=body, name="applied", namespace=namespace, field_manager="python")
    held = core.read_namespaced_config_map("applied", namespace)
    assert any(entry.manager == "python" for entry in held.metadata.managed_fields)
    core.delete_namespaced_config_map("applied", namespace)
    core.delete_collection_namespaced_config_map(namespace, field_selector="metadata.name=one")
    try:
        core.read_namespaced_config_map("one", namespace)
        raise AssertionError("it is still there")
    except ApiException as refused:
        assert refused.status == 404, refused


def custom():
    definitions = client.ApiextensionsV1Api()
    definitions.create_custom_resource_definition(definition)
    name, group = definition["metadata"]["name"], definition["spec"]["group"]
    for _ in range(300):
        conditions = definitions.read_custom_resource_definition_status(name).status.conditions or []
        if any(it.type == "Established" and it.status == "True" for it in conditions):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("not established within 30 s")
    objects = client.CustomObjectsApi()
    body = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}}
    objects.create_namespaced_custom_object(group, "v1", namespace, "widgets", body)
    objects.patch_namespaced_custom_object(group, "v1", namespace, "widgets", "w", {"spec": {"size": 2}})
    assert objects.get_namespaced_custom_object(group, "v1", namespace, "widgets", "w")["spec"]["size"] == 2
    objects.delete_namespaced_custom_object(group, "v1", namespace, "widgets", "w")
    definitions.delete_custom_resource_definition(name)


def execute():
    from kubernetes.stream import stream

    container = {"name": "main", "image": exec_image, "command": ["sleep", "600"]}
    core.create_namespaced_pod(namespace, {"metadata": {"name": "shell"}, "spec": {"containers": [container]}})
    for event in watch.Watch().stream(core.list_namespaced_pod, namespace, timeout_seconds=120):
        if event["object"].status.phase == "Running":
            break
    printed = stream(
        core.connect_get_namespaced_pod_exec, "shell", namespace, command=["echo", "inside"], stdout=True, stderr=True
    )
    assert printed.strip() == "inside", printed


built_in()
watching()
applied_and_deleted()
custom()
done = "create, read, list, watch, patch, apply, delete, custom resources"
if exec_image:
    execute()
    print(f"{done}, exec")
else:
    print(f"{done}; exec not run: no kubelet serves this cluster")
