// The JavaScript client's part of the matrix. Prints what it did; fails with an exception.
import assert from "node:assert/strict";
import * as k8s from "@kubernetes/client-node";

const namespace = process.env.NAMESPACE;
const definition = JSON.parse(process.env.DEFINITION);
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);

async function builtIn() {
  const body = { metadata: { name: "one" }, data: { a: "b" } };
  const made = await core.createNamespacedConfigMap({ namespace, body });
  assert.ok(made.metadata.uid);
  assert.deepEqual((await core.readNamespacedConfigMap({ namespace, name: "one" })).data, { a: "b" });
  const listed = await core.listNamespacedConfigMap({ namespace });
  assert.ok(listed.items.some((item) => item.metadata.name === "one"));
  const patch = [{ op: "add", path: "/data/c", value: "d" }];
  const patched = await core.patchNamespacedConfigMap({ namespace, name: "one", body: patch });
  assert.deepEqual(patched.data, { a: "b", c: "d" });
  await assert.rejects(core.createNamespacedConfigMap({ namespace, body }), (refused) => refused.code === 409);
}

async function watching() {
  const resourceVersion = (await core.listNamespacedConfigMap({ namespace })).metadata.resourceVersion;
  const seen = [];
  let controller;
  const done = new Promise((resolve, reject) => {
    const watch = new k8s.Watch(config);
    const event = (type, object) => {
      if (object.metadata.name !== "watched") return;
      seen.push(type);
      if (type === "DELETED") resolve();
    };
    watch
      .watch(`/api/v1/namespaces/${namespace}/configmaps`, { resourceVersion }, event, (error) => error && reject(error))
      .then((started) => (controller = started), reject);
    setTimeout(() => reject(new Error(`within 30 s only ${seen}`)), 30_000).unref();
  });
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "watched" } } });
  await core.deleteNamespacedConfigMap({ namespace, name: "watched" });
  await done;
  controller?.abort();
  assert.deepEqual(seen, ["ADDED", "DELETED"]);
}

async function applied() {
  const body = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "applied", namespace }, data: { k: "1" } };
  await objects.patch(body, undefined, undefined, "javascript", true, k8s.PatchStrategy.ServerSideApply);
  const held = await core.readNamespacedConfigMap({ namespace, name: "applied" });
  assert.ok(held.metadata.managedFields.some((entry) => entry.manager === "javascript" && entry.operation === "Apply"));
  await core.deleteNamespacedConfigMap({ namespace, name: "applied" });
  await assert.rejects(core.readNamespacedConfigMap({ namespace, name: "applied" }), (refused) => refused.code === 404);
}

async function custom() {
  const definitions = config.makeApiClient(k8s.ApiextensionsV1Api);
  await definitions.createCustomResourceDefinition({ body: definition });
  const name = definition.metadata.name;
  for (let attempt = 0; ; attempt++) {
    const { status } = await definitions.readCustomResourceDefinition({ name });
    if (status?.conditions?.some((it) => it.type === "Established" && it.status === "True")) break;
    assert.ok(attempt < 300, "not established within 30 s");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const custom = config.makeApiClient(k8s.CustomObjectsApi);
  const place = { group: definition.spec.group, version: "v1", namespace, plural: "widgets" };
  const body = { apiVersion: `${place.group}/v1`, kind: "Widget", metadata: { name: "w" }, spec: { size: 1 } };
  await custom.createNamespacedCustomObject({ ...place, body });
  const patch = [{ op: "replace", path: "/spec/size", value: 2 }];
  await custom.patchNamespacedCustomObject({ ...place, name: "w", body: patch });
  assert.equal((await custom.getNamespacedCustomObject({ ...place, name: "w" })).spec.size, 2);
  await custom.deleteNamespacedCustomObject({ ...place, name: "w" });
  await definitions.deleteCustomResourceDefinition({ name });
}

async function execute(image) {
  const container = { name: "main", image, command: ["sleep", "600"] };
  await core.createNamespacedPod({ namespace, body: { metadata: { name: "shell" }, spec: { containers: [container] } } });
  for (let attempt = 0; ; attempt++) {
    if ((await core.readNamespacedPod({ namespace, name: "shell" })).status.phase === "Running") break;
    assert.ok(attempt < 1200, "the pod does not run within 120 s");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const { PassThrough } = await import("node:stream");
  const out = new PassThrough();
  const status = await new Promise((resolve, reject) => {
    new k8s.Exec(config).exec(namespace, "shell", "main", ["echo", "inside"], out, null, null, false, resolve).catch(reject);
  });
  assert.equal(status.status, "Success");
  assert.equal(String(out.read()).trim(), "inside");
}

await builtIn();
await watching();
await applied();
await custom();
const done = "create, read, list, watch, patch, apply, delete, custom resources";
if (process.env.EXEC_IMAGE) {
  await execute(process.env.EXEC_IMAGE);
  console.log(`${done}, exec`);
} else {
  console.log(`${done}; exec not run: no kubelet serves this cluster`);
}
process.exit(0);
