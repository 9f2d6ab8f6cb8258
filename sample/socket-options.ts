import type { GatewayMetadata } from '@nestjs/websockets';

/** Of every gateway: they share one server. No message of the pages is nearly as long. */
export const SOCKET_OPTIONS: GatewayMetadata = { maxHttpBufferSize: 32_768 };
