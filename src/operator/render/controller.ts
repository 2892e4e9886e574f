// SPDX-License-Identifier: Apache-2.0
import { API_SERVER_ENDPOINT, LAST_WORDS, variables } from "./agent.ts";
import type { Manifest } from "./manifest.ts";
import { CONTROLLER, labelsOf, NAME_LABEL, STARTUP_TAINT } from "./names.ts";
import type { InstallSettings } from "./settings.ts";

/** Port of the controller's metrics; the operator's is the next. */
export const CONTROLLER_METRICS_PORT = 9094;
export const OPERATOR_METRICS_PORT = 9095;

export interface DeploymentOptions {
  readonly name: string;
  readonly namespace: string;
  readonly replicas: number;
  readonly metricsPort: number;
  readonly env?: readonly object[];
  readonly managedBy?: string;
}

type PodSettings = Pick<InstallSettings, "image" | "imagePullSecrets" | "controlPlaneNodeSelector">;

/** A program for the whole cluster, of which one leads. Like the agent, it starts before there is a network. */
export function renderDeployment(settings: PodSettings, options: DeploymentOptions): Manifest {
  const { image, imagePullSecrets, controlPlaneNodeSelector } = settings;
  const { name, namespace, replicas, metricsPort, env = [], managedBy } = options;
  const selector = { matchLabels: { [NAME_LABEL]: name } };
  const probe = { httpGet: { port: metricsPort, path: "/metrics" }, timeoutSeconds: 5 };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace, labels: labelsOf(name, managedBy) },
    spec: {
      replicas,
      selector,
      // The port is the host's: on a cluster of one node there is no room for a second pod beside the first.
      strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } },
      template: {
        metadata: { labels: labelsOf(name) },
        spec: {
          serviceAccountName: name,
          ...(imagePullSecrets.length > 0 && {
            imagePullSecrets: imagePullSecrets.map((secret) => ({ name: secret })),
          }),
          priorityClassName: "system-cluster-critical",
          hostNetwork: true,
          dnsPolicy: "Default",
          nodeSelector: { "kubernetes.io/os": "linux", ...controlPlaneNodeSelector },
          tolerations: [
            { effect: "NoSchedule", operator: "Exists" },
            { key: "CriticalAddonsOnly", operator: "Exists" },
            // A node is not ready as long as it has no network.
            { key: "node.kubernetes.io/not-ready", effect: "NoExecute", operator: "Exists" },
            // It may have this effect, too, and goes when an agent is ready, which the operator is to install.
            { key: STARTUP_TAINT, effect: "NoExecute", operator: "Exists" },
          ],
          securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: "RuntimeDefault" } },
          containers: [
            {
              name: name.replace("gingham-", ""),
              image,
              command: [name],
              envFrom: API_SERVER_ENDPOINT,
              env: [
                { name: "POD_NAME", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
                { name: "GINGHAM_LEASE_NAMESPACE", valueFrom: { fieldRef: { fieldPath: "metadata.namespace" } } },
                ...variables({
                  GINGHAM_METRICS_PORT: String(metricsPort),
                }),
                ...env,
              ],
              ports: [{ name: "metrics", containerPort: metricsPort }],
              livenessProbe: { ...probe, periodSeconds: 20, failureThreshold: 6, initialDelaySeconds: 10 },
              readinessProbe: { ...probe, initialDelaySeconds: 2, periodSeconds: 5 },
              ...LAST_WORDS,
              resources: { requests: { cpu: "20m", memory: "128Mi" } },
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
              },
            },
          ],
        },
      },
    },
  };
}

export function controllerOptions(settings: InstallSettings, namespace: string): DeploymentOptions {
  return {
    name: CONTROLLER,
    namespace,
    replicas: settings.controlPlaneReplicas,
    metricsPort: CONTROLLER_METRICS_PORT,
  };
}
