import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

export { Counter, Gauge, Histogram, Registry }

const SECONDS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10]

/** A registry of its own for one process, with the figures of the process in it. */
export function createRegistry(): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  return registry
}

/** Times requests as `<service>_http_request_seconds` by method, route pattern and status. */
export function requestTimer(registry: Registry, service: string): Histogram {
  return new Histogram({
    name: `${service.replaceAll('-', '_')}_http_request_seconds`,
    help: 'Time to answer HTTP requests',
    labelNames: ['method', 'route', 'status'],
    buckets: SECONDS,
    registers: [registry],
  })
}
