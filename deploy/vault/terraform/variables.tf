# What may be chosen. Made from the same source as main.tf: do not change here.

variable "login" {
  description = "How the gateway logs in"
  type        = string
  default     = "kubernetes"

  validation {
    condition     = contains(["kubernetes", "approle", "jwt", "token-file"], var.login)
    error_message = "One of kubernetes, approle, jwt, token-file."
  }
}

variable "sign_as" {
  description = "As whom sessions are signed (sign-as)"
  type        = string
  default     = "gateway"

  validation {
    condition     = contains(["gateway", "user"], var.sign_as)
    error_message = "One of gateway, user."
  }
}

variable "host_certificates" {
  description = "Who has host certificates signed (host-certificates)"
  type        = string
  default     = "gateway"

  validation {
    condition     = contains(["gateway", "agents"], var.host_certificates)
    error_message = "One of gateway, agents."
  }
}

variable "agent_method" {
  description = "How Vault knows pods: jwt binds name and uid of the pod, kubernetes the service account alone"
  type        = string
  default     = "jwt"

  validation {
    condition     = contains(["jwt", "kubernetes"], var.agent_method)
    error_message = "One of jwt, kubernetes."
  }
}

variable "user_mount" {
  description = "SSH engine with the user CA (user-mount)"
  type        = string
  default     = "ssh"
}

variable "host_mount" {
  description = "SSH engine with the host CA (host-mount)"
  type        = string
  default     = "ssh-host"
}

variable "session_role" {
  description = "role that signs sessions (session-role)"
  type        = string
  default     = "doorward-session"
}

variable "link_role" {
  description = "role that signs the gateway's own certificate (link-role)"
  type        = string
  default     = "doorward-link"
}

variable "host_role" {
  description = "role that signs host certificates (host-role)"
  type        = string
  default     = "doorward-host"
}

variable "logins" {
  description = "accounts that sessions may be for: those of the workspaces and of the roles"
  type        = list(string)
  default     = ["node"]
}

variable "hosts" {
  description = "names of host certificates: each workspace, and each with .doorward behind it; * for any"
  type        = list(string)
  default     = ["*"]
}

variable "session_life" {
  description = "longest life of a session certificate in seconds (certificate-life)"
  type        = number
  default     = 180
}

variable "link_life" {
  description = "longest life of the gateway's own certificate in seconds"
  type        = number
  default     = 86400
}

variable "host_life" {
  description = "longest life of a host certificate in seconds; a day where agents have them signed"
  type        = number
  default     = null
}

variable "login_mount" {
  description = "mount of the gateway's auth method; default: the method's name"
  type        = string
  default     = ""
}

variable "login_role" {
  description = "the gateway's role there, and the name of its policy"
  type        = string
  default     = "doorward-gateway"
}

variable "service_account" {
  description = "kubernetes: the gateway's service account"
  type        = string
  default     = "doorward-gateway"
}

variable "namespace" {
  description = "kubernetes: the namespace of that account"
  type        = string
  default     = "doorward"
}

variable "api_server" {
  description = "kubernetes: the API server as Vault reaches it"
  type        = string
  default     = "https://kubernetes.default.svc"
}

variable "login_issuer" {
  description = "jwt: the issuer of the gateway's own token"
  type        = string
  default     = ""
}

variable "login_subject" {
  description = "jwt: the sub of that token"
  type        = string
  default     = ""
}

variable "login_audience" {
  description = "jwt: the audience of that token"
  type        = string
  default     = "vault"
}

variable "user_login_mount" {
  description = "sign-as user: mount of the JWT auth method"
  type        = string
  default     = "jwt"
}

variable "user_login_role" {
  description = "sign-as user: people's role there, and the name of their policy"
  type        = string
  default     = "doorward-user"
}

variable "issuer" {
  description = "sign-as user: the issuer of people's tokens"
  type        = string
  default     = ""
}

variable "issuer_ca" {
  description = "sign-as user: CA of that issuer's TLS, PEM; empty for those of Vault's system"
  type        = string
  default     = ""
}

variable "audience" {
  description = "sign-as user: the audience of people's tokens"
  type        = string
  default     = "doorward-gateway"
}

variable "user_claim" {
  description = "sign-as user: where the person's name stands, as a JSON pointer"
  type        = string
  default     = "/preferred_username"
}

variable "agent_mount" {
  description = "host certificates for agents: the mount of their auth method, which nothing else uses"
  type        = string
  default     = "doorward-agents"
}

variable "agent_role" {
  description = "host certificates for agents: their role there, and the name of its policy"
  type        = string
  default     = "doorward-agent"
}

variable "agent_audience" {
  description = "host certificates for agents: the audience of the pods' tokens, which must not be the gateway's"
  type        = string
  default     = "vault"
}

variable "agent_namespaces" {
  description = "host certificates for agents: the namespaces of their pods"
  type        = list(string)
  default     = ["devenv"]
}

variable "agent_cluster" {
  description = "host certificates for agents: the issuer of the cluster's tokens (jwt), or its API server (kubernetes)"
  type        = string
  default     = "https://kubernetes.default.svc"
}

variable "agent_cluster_ca" {
  description = "host certificates for agents: CA of that server's TLS, PEM; empty for those of Vault's system"
  type        = string
  default     = ""
}
