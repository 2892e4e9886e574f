// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FAMILIES } from "../../src/lab/families.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import type { RunResult } from "../../src/lab/run.ts";
import { attachChain, type ChainedPod, DUAL, hello, ok, requirePrograms, startEcho } from "./support/chain.ts";
import { ROOT } from "./support/stack.ts";

/** Host ports by Debian's portmap after gingham: both families, from everywhere, and gone with the pod. */

const HOST_PORT = 8080;
const PORT = 80;
const NODES = {
  "node-1": { 4: "172.30.0.11", 6: "fd00:172:30::11" },
  "node-2": { 4: "172.30.0.12", 6: "fd00:172:30::12" },
} as const;
const PORTMAP = { type: "portmap", snat: true, capabilities: { portMappings: true } };
const PROTOCOLS = ["tcp", "udp"] as const;
type Exec = (...argv: string[]) => Promise<RunResult>;

let lab: RemoteLab;
let web: ChainedPod;
const neighbours = new Map<string, ChainedPod>();

beforeAll(async () => {
  await requirePrograms({
    "/usr/lib/cni/portmap": "containernetworking-plugins",
    iptables: "iptables",
    ss: "iproute2",
  });
  lab = await startLab({
    root: ROOT,
    script: join(ROOT, "src/main/lab.ts"),
    nodes: 2,
    pods: 0,
    families: FAMILIES.dual,
  });
  const portMappings = ["tcp", "udp", "sctp"].map((protocol) => ({
    hostPort: HOST_PORT,
    containerPort: PORT,
    protocol,
  }));
  web = await attachChain(lab, {
    node: "node-1",
    name: "web",
    plugins: [DUAL, PORTMAP],
    capabilityArgs: { portMappings },
  });
  for (const node of lab.nodes) {
    neighbours.set(node, await attachChain(lab, { node, name: `client-${node}`, plugins: [DUAL, PORTMAP] }));
  }
  await startEcho(web, PORT);
});
afterAll(() => lab.stop());

const onNode =
  (node: string): Exec =>
  (...argv) =>
    lab.exec(node, argv);

/** Whom the pod saw, by the host port of its node, for both protocols of a family. */
async function ask(exec: Exec, ip: string): Promise<readonly string[]> {
  return Promise.all(PROTOCOLS.map((protocol) => hello(exec, { protocol, ip, port: HOST_PORT })));
}

function clientOn(node: string): ChainedPod {
  const client = neighbours.get(node);
  if (client === undefined) throw new Error(`No pod on ${node}`);
  return client;
}

async function rules(): Promise<string> {
  const saved = ["iptables-save", "ip6tables-save"].map((command) => ok(lab.exec("node-1", [command, "-t", "nat"])));
  return (await Promise.all(saved)).join("\n");
}

describe.each([4, 6] as const)("a host port over IPv%i, TCP and UDP", (family) => {
  const node = NODES["node-1"][family];
  const ipOf = (pod: ChainedPod): string => pod.ips[family === 4 ? 0 : 1] ?? "";

  test("answers another node, which it sees under its own address", async () => {
    const other = NODES["node-2"][family];
    expect(await ask(onNode("node-2"), node)).toEqual([other, other]);
  });

  test("answers a pod on its own node, which it sees under its own address", async () => {
    const client = clientOn("node-1");
    expect(await ask(client.exec, node)).toEqual([ipOf(client), ipOf(client)]);
  });

  test("answers a pod on another node, which it sees as natOutgoing of the pool lets it out", async () => {
    const client = clientOn("node-2");
    // A node's address is outside every pool, and the laboratory's IPv4 pool has natOutgoing.
    const seen = family === 4 ? NODES["node-2"][4] : ipOf(client);
    expect(await ask(client.exec, node)).toEqual([seen, seen]);
  });

  test("answers its own node", async () => {
    expect(await ask(onNode("node-1"), node)).toEqual([node, node]);
  });

  test("answers the pod itself, under an address of the node: without snat it would see itself and stay silent", async () => {
    expect(await ask(web.exec, node)).toEqual([node, node]);
  });
});

test.each([4, 6] as const)(
  "a pod of IPv%i alone has its host port in that family, and none in the other",
  async (family) => {
    const port = HOST_PORT + family;
    const ipam = { type: "gingham-ipam", assign_ipv4: String(family === 4), assign_ipv6: String(family === 6) };
    const pod = await attachChain(lab, {
      node: "node-1",
      name: `alone-${family}`,
      plugins: [{ type: "gingham", ipam }, PORTMAP],
      capabilityArgs: { portMappings: [{ hostPort: port, containerPort: PORT, protocol: "tcp" }] },
    });
    await startEcho(pod, PORT, 20);
    const other = family === 4 ? 6 : 4;
    const from = onNode("node-2");
    expect(await hello(from, { protocol: "tcp", ip: NODES["node-1"][family], port })).toBe(NODES["node-2"][family]);
    expect(await hello(from, { protocol: "tcp", ip: NODES["node-1"][other], port })).toContain("Connection refused");
    await expect(pod.check()).rejects.toMatchObject({ plugin: "portmap", command: "CHECK" });
    await pod.del();
  },
);

describe("portmap", () => {
  test("answers its own node on 127.0.0.1, for which the pod's link routes loopback addresses", async () => {
    const [tcp, udp] = await ask(onNode("node-1"), "127.0.0.1");
    expect([tcp, udp]).toEqual([NODES["node-1"][4], NODES["node-1"][4]]);
  });

  test("has rules for SCTP, too, of which this kernel may have no sockets", async () => {
    const saved = await rules();
    for (const to of [`${web.ips[0]}:${PORT}`, `[${web.ips[1]}]:${PORT}`]) {
      expect(saved).toContain(`-p sctp -m sctp --dport ${HOST_PORT} -j DNAT --to-destination ${to}`);
    }
  });

  test("1.1.1 fails its own CHECK in dual stack, looking for IPv4 rules in IPv6 tables; gingham's, before it, is good", async () => {
    await expect(web.check()).rejects.toMatchObject({ plugin: "portmap", command: "CHECK" });
  });

  test("leaves nothing after DEL: no rule, and no answer", async () => {
    await web.del();
    expect(await rules()).not.toMatch(/web|:80\b|8080/);
    for (const family of [4, 6] as const) {
      const answers = await ask(onNode("node-2"), NODES["node-1"][family]);
      for (const answer of answers) expect(answer).toMatch(/^exit status/);
    }
  });

  test("gives the host port to the next pod", async () => {
    const portMappings = [{ hostPort: HOST_PORT, containerPort: PORT, protocol: "tcp" }];
    const capabilityArgs = { portMappings };
    const next = await attachChain(lab, { node: "node-1", name: "next", plugins: [DUAL, PORTMAP], capabilityArgs });
    await startEcho(next, PORT);
    for (const family of [4, 6] as const) {
      const to = { protocol: "tcp", ip: NODES["node-1"][family], port: HOST_PORT } as const;
      expect(await hello(onNode("node-2"), to)).toBe(NODES["node-2"][family]);
    }
    await next.del();
  });
});
