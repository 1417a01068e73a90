export { AuthorityConfig } from './config.js'
export { createSite } from './create-site.js'
export { type Authority, SERVICES, type ServiceName, startAuthority } from './serve.js'
