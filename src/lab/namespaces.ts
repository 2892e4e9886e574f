// SPDX-License-Identifier: Apache-2.0

/** Command lines that make and enter the laboratory's namespaces. Pure. */

/**
 * Runs a program in a user (unless root), mount, network and process namespace of its own. The program is process 1 of
 * it: when it ends, or `unshare` does, the kernel ends all others and takes every namespace and mount away.
 */
export function sandboxArgv(options: { readonly rootless: boolean }): readonly string[] {
  return [
    "unshare",
    ...(options.rootless ? ["--user", "--map-root-user"] : []),
    ...["--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"],
  ];
}

/**
 * Goes before a program that is to be process 1: whom nobody waits for any more, process 1 has to, and Node waits only for what it
 * has started itself. A shell that waits does so for all. The program's exit status is its own.
 */
export const INIT_ARGV: readonly string[] = ["sh", "-c", '"$@" & wait $!', "sh"];

/** From the host into the laboratory; `pid` as the host counts. */
export function enterLabArgv(pid: number, options: { readonly rootless: boolean }): readonly string[] {
  const user = options.rootless ? ["--user", "--preserve-credentials"] : [];
  return ["nsenter", "--target", String(pid), ...user, "--mount", "--net", "--pid", "--"];
}

/** From the laboratory onto a node; `holderPid` as the laboratory counts. */
export function enterNodeArgv(holderPid: number): readonly string[] {
  return ["nsenter", "--target", String(holderPid), "--mount", "--net", "--uts", "--"];
}

/** From the laboratory into a pod. The path of its namespace is one of the node's, so the node comes first. */
export function enterPodArgv(holderPid: number, netns: string): readonly string[] {
  return [...enterNodeArgv(holderPid), "nsenter", `--net=${netns}`, "--"];
}

/**
 * Makes a node's namespaces and stays to keep them. A process holds them, not a bind mount: the kernel refuses to bind a
 * mount namespace that it does not believe to be younger than the current one, and since 6.18 it numbers namespaces per
 * processor, so that about one bind in five fails.
 */
export function holderArgv(script: string): readonly string[] {
  return ["unshare", "--mount", "--propagation", "private", "--net", "--uts", "--", "sh", "-euc", script];
}
