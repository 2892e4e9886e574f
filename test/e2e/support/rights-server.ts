// SPDX-License-Identifier: Apache-2.0
// The embedded API server, which gives agent and controller the rights of manifests/install.yaml and no others, and writes down what each
// asked for. Run by install-host.ts:
//
//   node rights-server.ts KUBECONFIG LOG
import { appendFileSync, writeFileSync } from "node:fs";
import { createApiServer } from "../../../src/apiserver/api-server.ts";
import { parseResourcePath, verbOf } from "../../../src/apiserver/request.ts";
import { renderCRD } from "../../../src/crds/definition.ts";
import { KINDS } from "../../../src/crds/kinds.ts";
import { type Account, isAllowed, rightsOfInstall } from "./rights.ts";

const [kubeconfig = "", log = ""] = process.argv.slice(2);
const rights = rightsOfInstall();

const server = await createApiServer({
  port: 6443,
  manifests: KINDS.map(renderCRD),
  intercept: ({ method, path, userAgent }) => {
    const account = /^(gingham-(?:agent|controller))\//.exec(userAgent)?.[1] as Account | undefined;
    const [file = "", query] = path.split("?");
    const resource = parseResourcePath(file);
    if (account === undefined || resource === undefined) return undefined;
    const { group, plural, subresource, namespace, name } = resource;
    const verb = verbOf(method, resource, new URLSearchParams(query));
    const request = {
      verb,
      group,
      resource: subresource === "" ? plural : `${plural}/${subresource}`,
      namespace,
      name,
    };
    const allowed = isAllowed(rights[account], request);
    appendFileSync(log, `${JSON.stringify({ account, allowed, ...request })}\n`);
    return allowed ? undefined : { status: 403 };
  },
});
writeFileSync(kubeconfig, server.adminKubeconfig());
process.stdout.write("serving\n");
