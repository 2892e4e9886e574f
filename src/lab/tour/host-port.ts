// SPDX-License-Identifier: Apache-2.0
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
    const url = `http://${node?.ip ?? ""}:${HOST_PORT.hostPort}/`;
    try {
      const { exitCode, stdout, stderr } = await lab.exec(client, [...endpointProgram, "ask", url]);
      const isAnswered = exitCode === 0 && stdout.startsWith(text);
      return {
        lines: [`${client}$ curl ${url}`, isAnswered ? stdout.trim() : stderr.trim()],
        problems: isAnswered ? [] : [`${url} did not answer ${client}: ${stderr.trim()}`],
        summary: `host port ${isAnswered ? "answers" : "is silent"}`,
      };
    } finally {
      server.stop();
    }
  },
};
