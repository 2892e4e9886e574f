// SPDX-License-Identifier: Apache-2.0
// The embedded API server as a process of its own, to be killed: plain HTTP, so that a proxy can count its writes.
import { createApiServer } from "../../../../src/apiserver/api-server.ts";
import type { Identity } from "../../../../src/apiserver/auth.ts";
import { renderCRD } from "../../../../src/crds/definition.ts";
import { KINDS } from "../../../../src/crds/kinds.ts";

const [data = ":memory:", port = "0", tokens = "[]"] = process.argv.slice(2);
const server = await createApiServer({
  insecureHttp: true,
  data,
  port: Number(port),
  tokens: JSON.parse(tokens) as Identity[], // Written by cluster.ts.
  manifests: KINDS.map(renderCRD),
});
process.send?.(server.url);
