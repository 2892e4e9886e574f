// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createApiServer } from "../../src/apiserver/api-server.ts";
import { NODES } from "../../src/crds/core.ts";
import { renderCRD } from "../../src/crds/definition.ts";
import { KINDS } from "../../src/crds/kinds.ts";
import { type ContractServer, describeKubeClient } from "../../src/kube/client.contract.ts";
import { HTTPKubeClient } from "../../src/kube/client.ts";
import { UnreachableError } from "../../src/kube/errors.ts";
import { loadKubeConfig } from "../../src/kube/kube-config.ts";

/** The embedded API server over TLS with a bearer token, and a client by its kubeconfig. */
async function start(data: (folder: string) => string): Promise<ContractServer & { stop(): Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), "kube-client-"));
  const server = await createApiServer({ data: data(folder), manifests: KINDS.map(renderCRD) });
  const kubeconfigPath = join(folder, "kubeconfig");
  writeFileSync(kubeconfigPath, server.adminKubeconfig());
  const client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }) });
  return {
    client,
    compact: () => server.compact(),
    stop: async () => {
      client.close();
      await server.close();
      rmSync(folder, { recursive: true });
    },
  };
}

describeKubeClient("the embedded API server, in memory", () => start(() => ":memory:"));
describeKubeClient("the embedded API server, in a file", () => start((folder) => join(folder, "data.sqlite")));

test("a certificate of another authority is refused, and the error says so", async () => {
  const one = await createApiServer();
  const other = await createApiServer();
  const folder = mkdtempSync(join(tmpdir(), "kube-client-"));
  const kubeconfigPath = join(folder, "kubeconfig");
  writeFileSync(kubeconfigPath, one.adminKubeconfig().replaceAll(one.url, other.url));
  const client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }) });
  const error = await client.list(NODES).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(UnreachableError);
  expect(error).toMatchObject({ message: expect.stringMatching(/certificate/) as string });
  client.close();
  rmSync(folder, { recursive: true });
  await Promise.all([one.close(), other.close()]);
});
