import { InvalidArgumentError } from 'commander'
import { Value } from 'typebox/value'
import { Scope } from '../../api/people.js'

/** `site`, `cluster:lab`, `tag:green`, `vm:<id>`, as an option takes a scope. */
export function scope(text: string): Scope {
  const [kind, ...rest] = text.split(':')
  const value = rest.length === 0 ? { kind } : { kind, name: rest.join(':') }
  if (Value.Check(Scope, value)) return value
  throw new InvalidArgumentError('expected site, cluster:<name>, tag:<name> or vm:<id>')
}

export function scopeText(value: Scope): string {
  return value.kind === 'site' ? value.kind : `${value.kind}:${value.name}`
}
