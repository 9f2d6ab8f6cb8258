import { describe, expect, it } from '@jest/globals';
import { HttpException } from '@nestjs/common';
import { ExecutionContextHost } from '@nestjs/core/helpers/execution-context-host.js';
import { WsException } from '@nestjs/websockets';
import { ClientLeftError, toTransportError } from '../../../lib/injection/transport-errors.js';

describe('a client that has left while it waited', () => {
  const left = new ClientLeftError();

  it.each([
    ['http', HttpException],
    ['ws', WsException],
  ])('is no unknown error to %s, so it does not fill the log', async (type, expected) => {
    const context = new ExecutionContextHost([]);
    context.setType(type);
    expect(await toTransportError(left, context, undefined)).toBeInstanceOf(expected);
  });
});
