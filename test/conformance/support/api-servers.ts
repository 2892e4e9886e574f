// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createApiServer } from "../../../src/apiserver/api-server.ts";
import { BLOCK_AFFINITIES } from "../../../src/crds/block-affinity.ts";
import { LEASES } from "../../../src/crds/core.ts";
import { renderCRD } from "../../../src/crds/definition.ts";
import { IP_POOLS } from "../../../src/crds/ip-pool.ts";
import { IPAM_BLOCKS } from "../../../src/crds/ipam-block.ts";
import { IPAM_HANDLES } from "../../../src/crds/ipam-handle.ts";
import { KINDS } from "../../../src/crds/kinds.ts";
import type { KubeObject, Resource } from "../../../src/crds/object.ts";
import type { KubeClient } from "../../../src/kube/api.ts";
import { HTTPKubeClient } from "../../../src/kube/client.ts";
import type { KubeCredentials } from "../../../src/kube/credentials.ts";
import { NotFoundError } from "../../../src/kube/errors.ts";
import { loadKubeConfig } from "../../../src/kube/kube-config.ts";
import { TEST_PREFIX } from "../../../src/lib/test-prefix.ts";

/** An API server that has our kinds, and a client of its administrator. */
export interface TestServer {
  readonly client: KubeClient;
  readonly credentials: KubeCredentials;
  /** Leaves nothing behind. */
  stop(): Promise<void>;
}

export interface ServerChoice {
  readonly name: string;
  readonly start: () => Promise<TestServer>;
}

const VARIABLE = "GINGHAM_TEST_KUBECONFIG";

/** The embedded API server; a file keeps its data where `hasDisk`. */
export function embeddedServer({ hasDisk }: { readonly hasDisk: boolean }): ServerChoice {
  const start = async (): Promise<TestServer> => {
    const folder = mkdtempSync(join(tmpdir(), "gingham-test-"));
    const data = hasDisk ? join(folder, "data.sqlite") : ":memory:";
    const server = await createApiServer({ data, manifests: KINDS.map(renderCRD) });
    const kubeconfigPath = join(folder, "kubeconfig");
    writeFileSync(kubeconfigPath, server.adminKubeconfig(), { mode: 0o600 });
    const credentials = await loadKubeConfig({ kubeconfigPath });
    const client = new HTTPKubeClient({ credentials });
    const stop = async (): Promise<void> => {
      client.close();
      await server.close();
      rmSync(folder, { recursive: true });
    };
    return { client, credentials, stop };
  };
  return { name: `the embedded API server, ${hasDisk ? "in a file" : "in memory"}`, start };
}

/**
 * The API server that GINGHAM_TEST_KUBECONFIG names, which may be a cluster in use; none where it is not set, and stderr
 * says so.
 */
export function namedServers(): readonly ServerChoice[] {
  const kubeconfigPath = process.env[VARIABLE];
  if (kubeconfigPath === undefined || kubeconfigPath === "") {
    process.stderr.write(`${VARIABLE} is not set: these tests see the embedded API server only, no other.\n`);
    return [];
  }
  const start = async (): Promise<TestServer> => {
    const credentials = await loadKubeConfig({ kubeconfigPath });
    const client = new HTTPKubeClient({ credentials });
    await client.list(IPAM_BLOCKS, { limit: 1 }).catch((cause: unknown) => {
      const what = `The API server of ${VARIABLE} (${kubeconfigPath}) does not list IPAMBlocks`;
      throw new Error(`${what}; kubectl apply -f manifests/crds, and use an administrator's kubeconfig`, { cause });
    });
    const stop = async (): Promise<void> => {
      await removeTestObjects(client);
      client.close();
    };
    return { client, credentials, stop };
  };
  return [{ name: `the API server of ${VARIABLE}`, start }];
}

/** Deletes all that the contract suites of this process have made. */
async function removeTestObjects(client: KubeClient): Promise<void> {
  const remove = async <T extends KubeObject>(resource: Resource<T>): Promise<void> => {
    // Damaged objects are among them, so nothing is parsed.
    const { parse: _, ...unparsed } = resource;
    for (const { metadata } of (await client.list<T>(unparsed)).items) {
      const { name, namespace } = metadata;
      if (!name.startsWith(TEST_PREFIX)) continue;
      const options = namespace === undefined ? {} : { namespace };
      if (metadata.finalizers !== undefined) {
        const body = { metadata: { finalizers: null } };
        await client.patch<T>(unparsed, name, { type: "merge", body }, options);
      }
      await client.delete<T>(unparsed, name, options).catch((error: unknown) => {
        if (!(error instanceof NotFoundError)) throw error;
      });
    }
  };
  for (const resource of [IPAM_BLOCKS, IPAM_HANDLES, BLOCK_AFFINITIES, IP_POOLS]) await remove<KubeObject>(resource);
  await remove(LEASES);
}
