// SPDX-License-Identifier: Apache-2.0
import { GinghamError } from "../lib/errors.ts";

/** Something that the laboratory needs is missing, or a step of it failed. Shown to the user as one line. */
export class LabError extends GinghamError {}

/** What a user typed on the command line makes no sense. The exit status is 2. */
export class UsageError extends LabError {
  constructor(message: string) {
    super("Usage", message);
  }
}

/** A program that the laboratory ran did not succeed. */
export class CommandError extends LabError {
  readonly argv: readonly string[];
  readonly exitCode: number;
  readonly stderr: string;

  constructor(argv: readonly string[], exitCode: number, stderr: string) {
    const said = stderr.trim();
    super("CommandFailed", `${argv.join(" ")} exited with ${exitCode}${said === "" ? "" : `: ${said}`}`);
    this.argv = argv;
    this.exitCode = exitCode;
    this.stderr = stderr;
  }
}

/** A CNI plugin answered with an error object, or with none where one was due. Source: CNI SPEC 1.0.0, "Error". */
export class PluginError extends LabError {
  /** The plugin's type, as the configuration names it. */
  readonly plugin: string;
  readonly command: string;
  /** `code` of the error object; 0 when the plugin gave none. */
  readonly cniCode: number;

  constructor(failure: { plugin: string; command: string; cniCode: number; text: string }) {
    super(
      "PluginFailed",
      `${failure.plugin} ${failure.command} failed with CNI code ${failure.cniCode}: ${failure.text}`,
    );
    this.plugin = failure.plugin;
    this.command = failure.command;
    this.cniCode = failure.cniCode;
  }
}
