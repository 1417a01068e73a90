import { PlatformError } from '../core/errors.js'

/** @throws PlatformError `REQUEST_INVALID` with the consequence of a command that was not confirmed by `--yes` */
export function requireYes(options: { readonly yes?: boolean }, consequence: string): void {
  if (options.yes === true) return
  throw new PlatformError('REQUEST_INVALID', `${consequence}; say --yes to do it`)
}
