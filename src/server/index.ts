export { AuthorityConfig } from './config.js'
export { createSite } from './create-site.js'
export { configuredTpm } from './sealers.js'
export {
  type Authority,
  SEALED_COLUMNS,
  SERVICES,
  type ServiceName,
  startAuthority,
} from './serve.js'
