/// The numbers of those enum values that differ between the two generations.
///
/// A message shared by both holds enums as plain numbers, so these must be used to fill and read
/// it, never the accessors prost generates from v4's enums.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// `TableType`: what the speaker itself holds.
    pub table_global: i32,
    /// `TableType`: what a peer is sent.
    pub table_adj_out: i32,
    /// `TableLookupPrefix.Type`: this prefix and no other.
    pub lookup_exact: i32,
    /// `DefinedType`: a set of neighbor addresses.
    pub set_neighbor: i32,
    /// `DefinedType`: a set of patterns on large communities.
    pub set_large_community: i32,
    /// `MatchSet.Type`: one member suffices.
    pub match_any: i32,
    /// `MatchSet.Type`: no member may match.
    pub match_invert: i32,
    /// `CommunityAction.Type`: put them on beside those there are.
    pub community_add: i32,
    /// `CommunityAction.Type`: take them off.
    pub community_remove: i32,
    /// `MedAction.Type`: this value, not a difference.
    pub med_replace: i32,
    /// `ResetPeerRequest`: our routes towards the peer.
    pub reset_out: i32,
}

impl Codes {
    /// gobgp 3.x.
    pub const V3: Self = Self {
        table_global: 0,
        table_adj_out: 3,
        lookup_exact: 0,
        set_neighbor: 1,
        set_large_community: 6,
        match_any: 0,
        match_invert: 2,
        community_add: 0,
        community_remove: 1,
        med_replace: 1,
        reset_out: 1,
    };
    /// gobgp 4.x.
    pub const V4: Self = Self {
        table_global: 1,
        table_adj_out: 4,
        lookup_exact: 1,
        set_neighbor: 2,
        set_large_community: 7,
        match_any: 1,
        match_invert: 3,
        community_add: 1,
        community_remove: 2,
        med_replace: 2,
        reset_out: 2,
    };
}
