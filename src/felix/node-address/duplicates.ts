// SPDX-License-Identifier: Apache-2.0
import { formatIP, type IP } from "../../net/ip.ts";
import type { Finding } from "../calc/findings.ts";

/**
 * Tells of addresses that another node has, too. Whose it is nobody here can know: the one that came later is wrong, and
 * both say so.
 *
 * @param duplicates names of other nodes by address of this one
 */
export function duplicateFindings(duplicates: ReadonlyMap<IP, readonly string[]>): readonly Finding[] {
  return [...duplicates].map(([ip, nodes]) => {
    const subject = formatIP(ip);
    const [others, have] = [nodes.join(", "), nodes.length === 1 ? "has" : "have"];
    const message = `Node ${others} ${have} this node's address ${subject}, too, so packets for one reach the other: correct the machine that came later, or delete its Node if it is gone (kubectl delete node ${nodes.join(" ")}); DISABLE_NODE_IP_CHECK=true lets it pass`;
    return { code: "DuplicateNodeAddress", subject, message };
  });
}
