import { createHash, timingSafeEqual } from 'node:crypto';
import type { DynamicModule, ExecutionContext } from '@nestjs/common';
import { StateInspectorModule } from 'nestjs-state';

/** `STATE_INSPECTOR_TOKEN=… npm start` shows what goes on inside at `/states?token=…`. Without one there is no such page. */
export function inspector(): DynamicModule[] {
  const token = process.env['STATE_INSPECTOR_TOKEN'];
  if (!token) return [];
  const expected = digest(token);
  const authorize = (context: ExecutionContext): boolean => {
    const { query } = context.switchToHttp().getRequest<{ query: Record<string, unknown> }>();
    // Hashes are of one length, and comparing them takes one time, however much of the token is right.
    return typeof query['token'] === 'string' && timingSafeEqual(digest(query['token']), expected);
  };
  return [StateInspectorModule.forRoot({ path: 'states', authorize })];
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
