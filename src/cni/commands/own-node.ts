// SPDX-License-Identifier: Apache-2.0
import { CNIError } from "../errors.ts";
import type { NetConf } from "../input/netconf.ts";
import type { CNI } from "./cni.ts";

/**
 * A configuration rendered for one node must not be used on another: its addresses would be routed there. The name in
 * the configuration counts before the one in its file, as in Calico's plugin; a file that is not there says nothing.
 *
 * @throws CNIError `InvalidNetworkConfig`
 */
export function refuseOtherNode({ host }: CNI, conf: Pick<NetConf, "name" | "nodeName" | "nodeNameFile">): void {
  const { name, nodeName, nodeNameFile } = conf;
  const named = nodeName ?? (nodeNameFile === undefined ? undefined : host.nodeNameIn(nodeNameFile));
  if (named === undefined || named === host.nodeName) return;
  const where = nodeName === undefined ? `nodename_file ${nodeNameFile} holds` : "nodename is";
  throw new CNIError(
    "InvalidNetworkConfig",
    `Network configuration ${name}: ${where} ${JSON.stringify(named)}, but this is node ` +
      `${JSON.stringify(host.nodeName)}; render the configuration for this node`,
  );
}
