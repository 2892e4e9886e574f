// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import type { Manifest } from "./manifest.ts";
import { AGENT, CNI_CONFIG, labelsOf, NAME_LABEL, NAMESPACE } from "./names.ts";
import type { InstallSettings } from "./settings.ts";

/** Of the pod template: a hash of all in it, so that a pod shows which one it was made of. */
export const REVISION_ANNOTATION = "gingham.dev/revision";

/** Of the agents, on 127.0.0.1. */
export const HEALTH_PORT = 9099;
/** The image's own user is none. */
/** Why a container ended is in its pod's status, where the operator reads it. */
export const LAST_WORDS = { terminationMessagePolicy: "FallbackToLogsOnError" } as const;
const AS_ROOT = { privileged: true, runAsUser: 0 };
/**
 * Where the API server is, in a cluster without kube-proxy: a ConfigMap that a user makes, with KUBERNETES_SERVICE_HOST and
 * KUBERNETES_SERVICE_PORT. Named as Calico's, and like it optional.
 */
export const API_SERVER_ENDPOINT: readonly object[] = [
  { configMapRef: { name: "kubernetes-services-endpoint", optional: true } },
];

/** One agent on each node. It starts before there is a network: its own is the host's, and it tolerates every taint. */
export function renderAgent(settings: InstallSettings, managedBy?: string): Manifest {
  const labels = labelsOf(AGENT, managedBy);
  const template = withRevision({ metadata: { labels: labelsOf(AGENT) }, spec: podSpec(settings) });
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: AGENT, namespace: NAMESPACE, labels },
    spec: {
      selector: { matchLabels: { [NAME_LABEL]: AGENT } },
      updateStrategy:
        settings.rollout === "Operator"
          ? { type: "OnDelete" }
          : { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1 } },
      template,
    },
  };
}

interface PodTemplate {
  readonly metadata: {
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: object;
}

function withRevision(template: PodTemplate): PodTemplate {
  const annotations = { [REVISION_ANNOTATION]: hashOf(template) };
  return { ...template, metadata: { ...template.metadata, annotations } };
}

/** Ten hexadecimal digits. */
function hashOf(value: object): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 10);
}

function podSpec(settings: InstallSettings): object {
  const { cni, image, imagePullSecrets } = settings;
  const mount = (name: string, mountPath: string, more: object = {}): object => ({ name, mountPath, ...more });
  const host = (name: string, path: string, type = "DirectoryOrCreate"): object => ({ name, hostPath: { path, type } });
  return {
    serviceAccountName: AGENT,
    ...(imagePullSecrets.length > 0 && { imagePullSecrets: imagePullSecrets.map((name) => ({ name })) }),
    priorityClassName: "system-node-critical",
    hostNetwork: true,
    // Delegated plugins run in the host's mount namespace, which is found by its first process.
    hostPID: true,
    dnsPolicy: "Default",
    nodeSelector: { "kubernetes.io/os": "linux", ...settings.nodeSelector },
    tolerations: [{ operator: "Exists" }],
    // Nothing to hand over: stopping leaves the kernel as it is.
    terminationGracePeriodSeconds: 10,
    initContainers: [
      {
        name: "install",
        image,
        command: ["gingham-install"],
        env: variables({ GINGHAM_CNI_BIN_DIR: cni.binDir, GINGHAM_INSTALL_PLUGINS: cni.install }),
        securityContext: AS_ROOT,
        ...LAST_WORDS,
        volumeMounts: [mount("cni-bin", cni.binDir), mount("state", "/var/lib/gingham")],
      },
    ],
    containers: [
      {
        name: "agent",
        image,
        command: ["gingham-agent"],
        envFrom: API_SERVER_ENDPOINT,
        env: agentEnv(settings),
        securityContext: AS_ROOT,
        ...LAST_WORDS,
        resources: { requests: { cpu: "50m", memory: "128Mi" } },
        ports: [{ name: "metrics", containerPort: settings.nodeMetricsPort }],
        // Everything before it is ready takes no peer and no free address, so it is only as slow as the API server.
        // A probe before anybody listens is an event "Unhealthy" of each start.
        startupProbe: { ...probe("/liveness"), initialDelaySeconds: 2, periodSeconds: 2, failureThreshold: 90 },
        livenessProbe: { ...probe("/liveness"), periodSeconds: 10, failureThreshold: 6, timeoutSeconds: 5 },
        readinessProbe: { ...probe("/readiness"), periodSeconds: 5, timeoutSeconds: 5 },
        volumeMounts: [
          mount("run", "/run/gingham"),
          mount("state", "/var/lib/gingham"),
          // Namespaces that the runtime makes later must show here, too.
          mount("netns", "/run/netns", { mountPropagation: "HostToContainer" }),
          // Under the host's own names, so that messages name what is there.
          mount("cni-bin", cni.binDir, { readOnly: true }),
          mount("cni-conf", cni.confDir),
          mount("cni-config", "/etc/gingham/cni", { readOnly: true }),
        ],
      },
    ],
    volumes: [
      host("run", "/run/gingham"),
      host("state", "/var/lib/gingham"),
      host("netns", "/run/netns"),
      host("cni-bin", cni.binDir),
      host("cni-conf", cni.confDir),
      { name: "cni-config", configMap: { name: CNI_CONFIG } },
    ],
  };
}

function agentEnv({ mtuBytes, autodetection, nodeMetricsPort, logLevel, cni }: InstallSettings): object[] {
  const { v4, v6 } = autodetection;
  return [
    { name: "NODENAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
    ...variables({
      FELIX_HEALTHPORT: String(HEALTH_PORT),
      FELIX_PROMETHEUSMETRICSPORT: String(nodeMetricsPort),
      FELIX_LOGSEVERITYSCREEN: logLevel,
      GINGHAM_POD_INTERFACE_MTU: String(mtuBytes),
      ...(v4 !== undefined && { IP: "autodetect", IP_AUTODETECTION_METHOD: v4 }),
      ...(v6 !== undefined && cni.families.includes(6) && { IP6: "autodetect", IP6_AUTODETECTION_METHOD: v6 }),
      GINGHAM_CNI_CONFLIST: "/etc/gingham/cni/conflist",
      GINGHAM_CNI_CONF_DIR: cni.confDir,
      GINGHAM_CNI_BIN_DIR: cni.binDir,
      ...(cni.others !== "keep" && { GINGHAM_CNI_OTHERS: cni.others }),
      GINGHAM_HOST_MOUNTS: "on",
    }),
  ];
}

export function variables(values: Readonly<Record<string, string>>): object[] {
  return Object.entries(values).map(([name, value]) => ({ name, value }));
}

function probe(path: string): object {
  return { httpGet: { host: "127.0.0.1", port: HEALTH_PORT, path } };
}
