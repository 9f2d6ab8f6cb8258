import {
  HttpException,
  Inject,
  Injectable,
  Logger,
  NotFoundException,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { INSPECTOR_OPTIONS, type StateInspectorOptions } from './inspector.options.js';

/** Lets in who may look, and answers everybody else as if there were nothing to look at. */
@Injectable()
export class InspectorGuard implements CanActivate {
  private readonly logger = new Logger('StateInspectorModule');

  constructor(
    @Inject(INSPECTOR_OPTIONS) private readonly options: StateInspectorOptions,
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    if ((await this.isLetIn(context)) === true) return true;
    const { httpAdapter } = this.host;
    const request: unknown = context.switchToHttp().getRequest();
    // The very words of Nest for a path that leads nowhere.
    const method = httpAdapter.getRequestMethod(request) as string;
    throw new NotFoundException(`Cannot ${method} ${httpAdapter.getRequestUrl(request) as string}`);
  }

  private async isLetIn(context: ExecutionContext): Promise<unknown> {
    try {
      return await this.options.authorize(context);
    } catch (error) {
      if (error instanceof HttpException) throw error;
      this.logger.error('`authorize` has thrown: the request is refused.', error);
      return false;
    }
  }
}
