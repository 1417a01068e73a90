/** Rows of people; made by migration 0018. Times are milliseconds. */
export interface PeopleTables {
  people_accounts: {
    account_id: string
    kind: 'user' | 'service-account'
    name: string
    password_hash: string | null
    state: 'active' | 'disabled'
    created_at_ms: number
    created_by: string
  }
  people_tokens: {
    token_id: string
    account_id: string
    token_hash: string
    note: string
    created_at_ms: number
    expires_at_ms: number
  }
  people_roles: { name: string; privileges: string; created_at_ms: number }
  people_permissions: {
    permission_id: string
    principal_kind: 'user' | 'service-account' | 'oidc-group'
    principal: string
    issuer: string
    role: string
    scope_kind: 'site' | 'cluster' | 'tag' | 'vm'
    scope: string
    granted_at_ms: number
    granted_by: string
  }
  people_login_attempts: {
    name_hash: string
    wrong: number
    not_before_ms: number
    forgotten_at_ms: number
  }
}
