// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FAMILIES } from "../../src/lab/families.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import { CNI_BIN_DIR } from "../../src/lab/topology.ts";
import { attachChain, type ChainedPod, DUAL, ok, requirePrograms, startEcho } from "./support/chain.ts";
import { ROOT } from "./support/stack.ts";

/** What a pod sends the moment ADD returns arrives, without a retry by anybody. */

const ROUNDS = 20;
const PORT = 7;
/** ARP, neighbour discovery and TCP try again after 1 s: what takes as long was lost at first. */
const RETRY_MS = 900;

let lab: RemoteLab;
let far: ChainedPod;

beforeAll(async () => {
  await requirePrograms({ ss: "iproute2", mkfifo: "coreutils" });
  lab = await startLab({
    root: ROOT,
    script: join(ROOT, "src/main/lab.ts"),
    nodes: 2,
    pods: 0,
    families: FAMILIES.dual,
  });
  far = await attachChain(lab, { node: "node-2", name: "far", plugins: [DUAL] });
  await startEcho(far, PORT, 120);
  // The block is node-1's from here on: other nodes hear of a new block a moment after its first pod is there.
  await attachChain(lab, { node: "node-1", name: "first", plugins: [DUAL] });
});
afterAll(() => lab.stop());

/**
 * Four processes wait in the pod's namespace at the end of a pipe, which closes when the plugin has ended. The next that
 * each does is to send: a datagram, or the first segment of a connection, over one family. Each prints how long the
 * answer took, in microseconds. At the end comes how many segments the pod's kernel sent again.
 */
function renderRound(name: string, conf: object): string {
  const enter = `nsenter --net=/run/netns/${name} --`;
  const targets = ["tcp", "udp"].flatMap((protocol) => far.ips.map((ip) => [protocol, ip] as const));
  const waiters = targets.map(([protocol, ip]) => {
    const start = `read -r _; start=\${EPOCHREALTIME/./}`;
    const send = `exec 3<>/dev/${protocol}/${ip}/${PORT} && echo ${name} >&3 && answer=$(timeout 3 head -1 <&3)`;
    const say = `echo ${protocol} ${ip} $((\${EPOCHREALTIME/./} - start)) $answer`;
    return `${enter} timeout 5 bash -c '${start}; ${send}; ${say}' < /run/${name}.go 9>&- &`;
  });
  return `
    ip netns add ${name}
    mkfifo /run/${name}.go
    exec 9<>/run/${name}.go
    ${waiters.join("\n")}
    # They must be waiting before it begins.
    until [ $(ip netns pids ${name} | wc -l) -eq ${2 * targets.length} ]; do sleep 0.01; done
    export CNI_COMMAND=ADD CNI_CONTAINERID=${name} CNI_NETNS=/run/netns/${name} CNI_IFNAME=eth0 CNI_PATH=${CNI_BIN_DIR}
    ${CNI_BIN_DIR}/gingham <<< '${JSON.stringify(conf)}' > /run/${name}.result
    exec 9>&-
    wait
    ${enter} awk '/^Tcp:/ { if (n++) print "retransmitted", $13 }' /proc/self/net/snmp
    CNI_COMMAND=DEL ${CNI_BIN_DIR}/gingham <<< '${JSON.stringify(conf)}'
    ip netns delete ${name}`;
}

test(`the first packets of ${ROUNDS} pods arrive on another node: IPv4 and IPv6, TCP and UDP`, async () => {
  const conf = { cniVersion: "1.0.0", name: "k8s-pod-network", ...DUAL };
  const slowestUs: number[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    const output = await ok(lab.exec("node-1", ["bash", "-ec", renderRound(`round-${round}`, conf)]));
    const lines = output.trim().split("\n").sort();
    const answers = lines.slice(1).map((line) => line.split(" "));
    expect(lines[0]).toBe("retransmitted 0");
    expect(answers.map(([protocol, ip]) => `${protocol} ${ip}`)).toEqual(
      ["tcp", "udp"].flatMap((protocol) => far.ips.map((ip) => `${protocol} ${ip}`)),
    );
    for (const [protocol, ip, us, seen] of answers) {
      expect(Number(us) / 1000, `${protocol} to ${ip} in round ${round}`).toBeLessThan(RETRY_MS);
      expect(seen, `the address that ${ip} saw by ${protocol}`).toMatch(
        ip?.includes(":") ? /^fd00:10:244:/ : /^192\.168\./,
      );
      slowestUs.push(Number(us));
    }
  }
  expect(slowestUs).toHaveLength(ROUNDS * 4);
});
