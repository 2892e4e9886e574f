// SPDX-License-Identifier: Apache-2.0
// The Helm chart is what is installed anyhow, rendered with marks where values go.
import { REVISION_ANNOTATION } from "../src/operator/render/agent.ts";
import { DEFAULT_SETTINGS, type InstallSettings } from "../src/operator/render/settings.ts";

const MARK = "HELM_";

/** Each value that is a word stands for itself, under its name in values.yaml. */
export const CHART_SETTINGS: InstallSettings = {
  ...DEFAULT_SETTINGS,
  image: `${MARK}image`,
  imagePullSecrets: [`${MARK}imagePullSecrets`],
  cni: { ...DEFAULT_SETTINGS.cni, binDir: `${MARK}binDir`, confDir: `${MARK}confDir` },
};

/** @param text manifests of CHART_SETTINGS. @throws Error for a mark in a place that no template stands for */
export function toTemplate(text: string): string {
  const template = text
    .replace(
      new RegExp(`^( *)imagePullSecrets:\\n *- name: ${MARK}imagePullSecrets\\n`, "gm"),
      "$1{{- with .Values.imagePullSecrets }}\n$1imagePullSecrets: {{ toJson . }}\n$1{{- end }}\n",
    )
    .replace(new RegExp(`: ${MARK}(\\w+)$`, "gm"), ": {{ .Values.$1 | quote }}")
    // It would be a hash of the marks.
    .replace(new RegExp(`^ *annotations:\\n *${REVISION_ANNOTATION}: .*\\n`, "gm"), "");
  if (template.includes(MARK)) throw new Error(`A value of the chart stands where no template does:\n${template}`);
  return template;
}
