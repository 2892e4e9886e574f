// SPDX-License-Identifier: Apache-2.0
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { BLOCK_CRD } from "../../src/apiserver/fake-client.ts";
import { type Bench, kubectlMinor, startBench } from "./apiserver-support.ts";

const manifest = (spec = ""): string => `apiVersion: test.gingham.dev/v1
kind: Block
metadata:
  name: fd00-10-244---122
spec:
  cidr: fd00:10:244::/122
  affinity: host:node-a
  sequenceNumber: 1763734567890123457
  allocations: [0, null, 1]
${spec}`;
const NAME = "fd00-10-244---122";

async function withBlock(): Promise<Bench> {
  const bench = await startBench({ manifests: [BLOCK_CRD] });
  // kubectl itself refuses null inside of arrays.
  await bench.ok(["apply", "--validate=false", "-f", "-"], manifest());
  return bench;
}

const DEPLOYMENT = (image: string): string => `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: a, image: "${image}", env: [{name: X, value: "1"}]}
      - {name: b, image: "b:1"}
`;

/**
 * For what kubectl 1.27 and later can do. Debian 12's is 1.20, with which everything else here runs; there these tests are
 * skipped, and the report says so.
 */
const version = kubectlMinor();
const newer: typeof it | typeof it.skip = version >= 27 ? it : it.skip;
if (version < 27) process.stderr.write(`kubectl here is 1.${version}: tests of what came by 1.27 are skipped\n`);

describe("kubectl", () => {
  it("gets a custom resource with its printer columns, and more of them with -o wide", async () => {
    const { ok } = await withBlock();
    const [head, row] = (await ok(["get", "blocks"])).split("\n");
    expect(head?.split(/\s+/)).toEqual(["NAME", "CIDR", "USED", "AGE"]);
    expect(row).toMatch(/^fd00-10-244---122\s+fd00:10:244::\/122\s+\d+s$/);
    expect(await ok(["get", "blk", "-o", "wide"])).toContain("host:node-a");
    expect(await ok(["get", "blocks", "--field-selector", "spec.affinity=host:other"])).toBe("");
  });

  it("shows 64-bit integers and nulls in YAML as they were applied", async () => {
    const { ok } = await withBlock();
    const yaml = await ok(["get", "block", NAME, "-o", "yaml"]);
    expect(yaml).toContain("sequenceNumber: 1763734567890123457");
    expect(yaml).toMatch(/allocations:\n {2}- 0\n {2}- null\n {2}- 1\n/);
  });

  it("applies again, patches, labels, edits and describes", async () => {
    const { ok, dir } = await withBlock();
    expect(await ok(["apply", "--validate=false", "-f", "-"], manifest())).toContain("unchanged");
    expect(await ok(["apply", "--validate=false", "-f", "-"], manifest("  size: 30\n"))).toContain("configured");
    await ok(["patch", "block", NAME, "--type=merge", "-p", '{"spec":{"affinity":"host:node-b"}}']);
    await ok(["patch", "block", NAME, "--type=json", "-p", '[{"op":"replace","path":"/spec/size","value":29}]']);
    await ok(["label", "block", NAME, "zone=a"]);
    const editor = join(dir, "editor");
    writeFileSync(editor, "#!/bin/sh\nsed -i s/host:node-b/host:node-c/ $1\n", { mode: 0o755 });
    await ok(["edit", "block", NAME], "", { EDITOR: editor });
    const text = await ok(["describe", "block", NAME]);
    for (const part of ["host:node-c", "Size:             29", "zone=a", "1763734567890123457"])
      expect(text).toContain(part);
  });

  it("replaces only what it has read: a stale file meets a conflict", async () => {
    const { ok, kubectl } = await withBlock();
    const read = await ok(["get", "block", NAME, "-o", "json"]);
    await ok(["annotate", "block", NAME, "x=y"]);
    const stale = await kubectl(["replace", "--validate=false", "-f", "-"], read);
    expect([stale.exitCode, stale.stderr]).toEqual([1, expect.stringContaining("the object has been modified")]);
  });

  newer("explains fields from the OpenAPI document, of definitions and of Kubernetes' own kinds", async () => {
    const { ok } = await withBlock();
    expect(await ok(["explain", "block.spec"])).toMatch(/What the block is\.[\s\S]*cidr\s<string> -required-/);
    expect(await ok(["explain", "pod.spec.containers.ports"])).toMatch(/containerPort\s<integer> -required-/);
  });

  newer("tells what is wrong with an object", async () => {
    const { kubectl } = await withBlock();
    const bad = manifest()
      .replace(/cidr: .*/, "cidr: none")
      .replace(NAME, "other");
    const pattern = await kubectl(["create", "--validate=false", "-f", "-"], bad);
    expect(pattern.stderr).toContain(
      'The Block "other" is invalid: spec.cidr: Invalid value: "none": spec.cidr in body should match',
    );
    const unknown = await kubectl(
      ["create", "--validate=strict", "-f", "-"],
      manifest("  colour: red\n").replace(/\n {2}alloc.*/, ""),
    );
    expect(unknown.stderr).toContain('unknown field "spec.colour"');
    const missing = await kubectl(["get", "block", "nope"]);
    expect(missing.stderr).toBe('Error from server (NotFound): blocks.test.gingham.dev "nope" not found\n');
    const type = await kubectl(["get", "things"]);
    expect(type.stderr).toContain(`the server doesn't have a resource type "things"`);
  });

  newer("prints each change with get -w, in columns", async () => {
    const { ok, follow } = await withBlock();
    const watch = follow(["get", "blocks", "-w", "--output-watch-events"]);
    await watch.until("ADDED");
    await ok(["patch", "block", NAME, "--subresource=status", "--type=merge", "-p", '{"status":{"used":42}}']);
    await watch.until("MODIFIED");
    await ok(["delete", "block", NAME]);
    await watch.until("DELETED");
    expect(watch.output()).toMatch(
      /EVENT\s+NAME\s+CIDR\s+USED\s+AGE\nADDED\s.*\nMODIFIED\s+fd00-10-244---122\s+\S+\s+42\s/,
    );
  });

  newer("waits for conditions, for JSON paths and for deletion", async () => {
    const { ok } = await withBlock();
    expect(await ok(["wait", "crd/blocks.test.gingham.dev", "--for=condition=Established", "--timeout=10s"])).toContain(
      "met",
    );
    const used = ok(["wait", "block", NAME, "--for=jsonpath={.status.used}=7", "--timeout=20s"]);
    await ok(["patch", "block", NAME, "--subresource=status", "--type=merge", "-p", '{"status":{"used":7}}']);
    expect(await used).toContain("condition met");
    const gone = ok(["wait", "block", NAME, "--for=delete", "--timeout=20s"]);
    await ok(["delete", "block", NAME, "--wait=false"]);
    expect(await gone).toBeDefined();
  });

  it("applies a definition and its object one after the other, and deletes both", async () => {
    const { ok, kubectl } = await startBench();
    await ok(["apply", "-f", "-"], JSON.stringify(BLOCK_CRD));
    await ok(["create", "--validate=false", "-f", "-"], manifest());
    expect(await ok(["api-resources", "--api-group=test.gingham.dev"])).toContain("blocks");
    await ok(["delete", "crd", "blocks.test.gingham.dev"]);
    expect((await kubectl(["get", "blocks"])).exitCode).toBe(1);
  });

  it("applies a Deployment twice by strategic merge, and sets an image and a variable", async () => {
    const { ok } = await startBench();
    await ok(["apply", "-f", "-"], DEPLOYMENT("a:1"));
    await ok(["set", "image", "deployment/web", "b=b:9"]);
    await ok(["set", "env", "deployment/web", "-c", "a", "Y=2"]);
    expect(await ok(["apply", "-f", "-"], DEPLOYMENT("a:2"))).toContain("configured");
    const images = await ok(["get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[*].image}"]);
    // What the file says wins; what it never said stays.
    expect(images).toBe("a:2 b:1");
    expect(await ok(["describe", "deployment", "web"])).toMatch(/X:\s+1[\s\S]*Y:\s+2/);
  });

  it("applies on the server's side, with conflicts between managers", async () => {
    const { ok, kubectl } = await startBench();
    await ok(["apply", "--server-side", "-f", "-"], DEPLOYMENT("a:1"));
    await ok(["set", "image", "deployment/web", "a=a:5"]);
    const conflict = await kubectl(["apply", "--server-side", "-f", "-"], DEPLOYMENT("a:2"));
    expect(conflict.stderr).toContain(
      'conflict with "kubectl-set" using apps/v1: .spec.template.spec.containers[name="a"].image',
    );
    await ok(["apply", "--server-side", "--force-conflicts", "-f", "-"], DEPLOYMENT("a:2"));
    expect(await ok(["get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}"])).toBe("a:2");
  });

  it("lists, describes, cordons and labels nodes, pods and namespaces", async () => {
    const { ok } = await startBench();
    const node = {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: "n" },
      status: { addresses: [{ type: "InternalIP", address: "10.1.0.1" }] },
    };
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "p" },
      spec: { nodeName: "n", containers: [{ name: "c", image: "i" }] },
    };
    await ok(["create", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "List", items: [node, pod] }));
    await ok(["cordon", "n"]);
    expect(await ok(["get", "nodes", "-o", "wide"])).toMatch(
      /n\s+Unknown,SchedulingDisabled\s+<none>\s+\d+s\s+10\.1\.0\.1/,
    );
    expect(await ok(["describe", "node", "n"])).toContain("10.1.0.1");
    expect(await ok(["describe", "pod", "p"])).toContain("Node:         n/");
    expect(await ok(["get", "pods", "-A", "--field-selector", "spec.nodeName=n"])).toContain("Pending");
    expect(await ok(["get", "ns"])).toMatch(/kube-system\s+Active/);
    await ok(["create", "-f", "-"], "apiVersion: v1\nkind: Namespace\nmetadata: {name: extra}\n");
    await ok(["delete", "namespace", "extra"]);
    expect(await ok(["delete", "pod", "p"])).toContain('"p" deleted');
  });

  newer("is told to use create -f where it would send protobuf", async () => {
    const { kubectl } = await startBench();
    const outcome = await kubectl(["create", "namespace", "x"]);
    expect([outcome.exitCode, outcome.stderr]).toEqual([1, expect.stringContaining("kubectl create -f")]);
  });

  newer("changes nothing on a dry run, and shows the difference", async () => {
    const { ok, kubectl } = await withBlock();
    await ok(["delete", "block", NAME, "--dry-run=server"]);
    expect(
      await ok([
        "patch",
        "block",
        NAME,
        "--type=merge",
        "--dry-run=server",
        "-p",
        '{"spec":{"size":31}}',
        "-o",
        "jsonpath={.spec.size}",
      ]),
    ).toBe("31");
    expect(await ok(["get", "block", NAME, "-o", "jsonpath={.spec.size}"])).toBe("26");
    const diff = await kubectl(["diff", "-f", "-"], manifest("  size: 30\n"));
    expect([diff.exitCode, diff.stdout]).toEqual([1, expect.stringContaining("+  size: 30")]);
  });
});
