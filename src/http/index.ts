export type { Access, Doors, PersonRule } from './access.js'
export { type App, type AppOptions, createApp, quiet, routesOf } from './app.js'
export {
  type AccountCaller,
  actorOf,
  type Caller,
  noteCheck,
  type OperatorCaller,
  type OutsideCaller,
} from './caller.js'
export {
  type CallerAccess,
  type CallerAccessOptions,
  type CallersAct,
  callerAccess,
  type PrivilegeNeeds,
} from './caller-access.js'
export { addEventStream, type StreamedEvent } from './event-stream.js'
export { addHealthRoutes, type HealthOptions } from './health-routes.js'
export {
  type HostAccess,
  type HostAccessOptions,
  type HostIdentity,
  hostAccess,
} from './host-access.js'
export { type HostRate, hostRate } from './host-rate.js'
export type { IdempotencyStore } from './idempotency.js'
export { type Listener, type ListenOptions, listen, type TlsFiles } from './listen.js'
export { Counter, createRegistry, Gauge, Histogram, type Registry } from './metrics.js'
export { addOpenApiRoute, type OpenApiInfo, openApiOf } from './open-api.js'
export { addOperation, type OperationInput, type RouteSettings } from './operation-route.js'
export { hardenProcess, runUntilSignal } from './process.js'
export { RateLimitedError } from './rate-limited.js'
export type { Refusal } from './refusal.js'
export type { RouteEntry } from './route-rules.js'
