// SPDX-License-Identifier: Apache-2.0
import { isAbsolute, join } from "node:path";
import { KubeConfigError } from "./errors.ts";

/** What a kubeconfig's current context says, with inline data decoded and paths made absolute. */
export interface KubeConfigContext {
  readonly server: URL;
  readonly otherServers?: readonly URL[];
  readonly namespace: string | undefined;
  readonly ca?: string;
  readonly caFile?: string;
  readonly cert?: string;
  readonly certFile?: string;
  readonly key?: string;
  readonly keyFile?: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly username?: string;
  readonly password?: string;
  readonly insecure?: boolean;
  readonly tlsServerName?: string;
  readonly usesProxy?: boolean;
  /** A credential plugin, an identity provider or a proxy: more than text in files. */
  readonly needsPlugin: boolean;
}

type Raw = Readonly<Record<string, unknown>>;

function isRaw(value: unknown): value is Raw {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Reads a kubeconfig. Inline data wins over a file, a token file over a token, as in client-go.
 *
 * @param parse YAML or JSON to a value.
 * @throws KubeConfigError. Source: Kubernetes API reference, client authentication, kubeconfig v1.
 */
export function parseKubeConfig(
  path: string,
  text: string,
  parse: (text: string) => unknown,
  folder: string,
): KubeConfigContext {
  const root = parseRoot(path, text, parse);
  const contextName = textOf(root, "current-context");
  if (contextName === undefined) throw bad(path, "it has no current-context; set one");
  const context = named(path, root, "contexts", contextName, "context");
  const clusterName = textOf(context, "cluster") ?? "";
  const cluster = named(path, root, "clusters", clusterName, "cluster");
  const userName = textOf(context, "user");
  const user: Raw = userName === undefined ? {} : named(path, root, "users", userName, "user");
  const usesProxy = textOf(cluster, "proxy-url") !== undefined;
  const file = (raw: Raw, field: string): string | undefined => {
    const value = textOf(raw, field);
    return value === undefined || isAbsolute(value) ? value : join(folder, value);
  };
  return present({
    server: serverOf(path, clusterName, textOf(cluster, "server")),
    namespace: textOf(context, "namespace"),
    ...inlineOrFile(["ca", "caFile"], cluster, "certificate-authority", file),
    ...inlineOrFile(["cert", "certFile"], user, "client-certificate", file),
    ...inlineOrFile(["key", "keyFile"], user, "client-key", file),
    token: textOf(user, "token"),
    tokenFile: file(user, "tokenFile"),
    username: textOf(user, "username"),
    password: textOf(user, "password"),
    insecure: cluster["insecure-skip-tls-verify"] === true,
    tlsServerName: textOf(cluster, "tls-server-name"),
    usesProxy,
    needsPlugin: isRaw(user["exec"]) || isRaw(user["auth-provider"]) || usesProxy,
  });
}

function parseRoot(path: string, text: string, parse: (text: string) => unknown): Raw {
  try {
    const root = parse(text);
    if (isRaw(root)) return root;
  } catch (cause) {
    throw bad(path, "it is neither YAML nor JSON", { cause });
  }
  throw bad(path, "it holds no kubeconfig");
}

function inlineOrFile(
  [inline, path]: readonly ["ca" | "cert" | "key", "caFile" | "certFile" | "keyFile"],
  raw: Raw,
  field: string,
  file: (raw: Raw, field: string) => string | undefined,
): Partial<KubeConfigContext> {
  const data = textOf(raw, `${field}-data`);
  if (data !== undefined) return { [inline]: Buffer.from(data, "base64").toString("utf8") };
  const name = file(raw, field);
  return name === undefined ? {} : { [path]: name };
}

function serverOf(path: string, cluster: string, server: string | undefined): URL {
  const url = URL.parse(server ?? "");
  if (url === null || !/^https?:$/.test(url.protocol))
    throw bad(
      path,
      `the server of cluster ${cluster} is ${JSON.stringify(server)}, want a URL such as https://host:6443`,
    );
  return url;
}

function named(path: string, root: Raw, list: string, name: string, field: string): Raw {
  const entries = Array.isArray(root[list]) ? (root[list] as readonly unknown[]) : []; // just checked
  const entry = entries.filter(isRaw).find((e) => e["name"] === name);
  const value = entry?.[field];
  if (!isRaw(value)) throw bad(path, `${list} has no entry named ${JSON.stringify(name)} with a ${field}`);
  return value;
}

function textOf(raw: Raw, field: string): string | undefined {
  const value = raw[field];
  return typeof value === "string" && value !== "" ? value : undefined;
}

function bad(path: string, what: string, options?: ErrorOptions): KubeConfigError {
  return new KubeConfigError(`Cannot use kubeconfig ${path}: ${what}`, options);
}

type Drafted = { [K in keyof KubeConfigContext]: KubeConfigContext[K] | undefined };

function present(draft: Drafted & { server: URL; needsPlugin: boolean }): KubeConfigContext {
  const defined = Object.entries(draft).filter(([, value]) => value !== undefined);
  // Dropping undefined values is all that happens: the types of the others stay.
  return { namespace: undefined, ...Object.fromEntries(defined) } as KubeConfigContext;
}
