import { inspect } from 'node:util';
import { Logger, type LoggerService } from '@nestjs/common';

/** What the library writes to the Nest logger, instead of the console. */
export class RecordedLogs implements LoggerService {
  /** Warnings, each as one text. */
  readonly warnings: string[] = [];
  /** Errors, each as one text with all it was logged with. */
  readonly errors: string[] = [];
  /** Everything, whatever its level. */
  readonly lines: string[] = [];

  /** From now on the Nest logger of this test file writes here. */
  static start(): RecordedLogs {
    const logs = new RecordedLogs();
    Logger.overrideLogger(logs);
    return logs;
  }

  log(...parts: unknown[]): void {
    this.add(undefined, parts);
  }

  warn(...parts: unknown[]): void {
    this.add(this.warnings, parts);
  }

  error(...parts: unknown[]): void {
    this.add(this.errors, parts);
  }

  private add(level: string[] | undefined, parts: readonly unknown[]): void {
    const line = parts
      .map((part) => (typeof part === 'string' ? part : inspect(part, { depth: 8 })))
      .join(' ');
    level?.push(line);
    this.lines.push(line);
  }
}
