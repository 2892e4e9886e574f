// SPDX-License-Identifier: Apache-2.0
import { hostOfURL } from "../families.ts";
import type { Probe } from "./probe.ts";
import { startEndpoint } from "./start-endpoint.ts";

/** The pod with a host port, see `plan-pods.ts`. */
export const HOST_PORT = { hostPort: 8080, containerPort: 80 };
export const WEB_POD = "pod-1";

/** Another node asks the first one for port 8080, which portmap sends on to the pod. */
export const HOST_PORT_PROBE: Probe = {
  title: `a request through a host port (portmap sends ${HOST_PORT.hostPort} on to ${WEB_POD})`,
  async run(lab, { endpointProgram }) {
    const pod = lab.pods.find(({ name }) => name === WEB_POD);
    const node = lab.nodes.find(({ name }) => name === pod?.node);
    const text = `hello from ${WEB_POD}`;
    const server = await startEndpoint(lab, WEB_POD, [
      ...endpointProgram,
      "answer",
      String(HOST_PORT.containerPort),
      text,
    ]);
    const client = lab.nodes.find(({ name }) => name !== pod?.node)?.name ?? "lab";
    const lines: string[] = [];
    const problems: string[] = [];
    try {
      for (const { ip } of node?.ips ?? []) {
        const url = `http://${hostOfURL(ip)}:${HOST_PORT.hostPort}/`;
        const { exitCode, stdout, stderr } = await lab.exec(client, [...endpointProgram, "ask", url]);
        const isAnswered = exitCode === 0 && stdout.startsWith(text);
        lines.push(`${client}$ curl ${url}`, isAnswered ? stdout.trim() : stderr.trim());
        if (!isAnswered) problems.push(`${url} did not answer ${client}: ${stderr.trim()}`);
      }
    } finally {
      server.stop();
    }
    return { lines, problems, summary: `host port ${problems.length === 0 ? "answers" : "is silent"}` };
  },
};
